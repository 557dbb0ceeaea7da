// SPDX-License-Identifier: Apache-2.0
#include "server/api/openai/response_answer.h"

#include <chrono>
#include <utility>

#include "common/random_id.h"
#include "server/api/json_body.h"
#include "server/http/sse.h"

namespace idefics {
namespace {

using nlohmann::json;

json OutputText(std::string text) {
  return {{"type", "output_text"},
          {"text", std::move(text)},
          {"annotations", json::array()},
          {"logprobs", json::array()}};
}

bool IsCut(const JobView& view) {
  return !view.choice_ends.empty() && view.choice_ends.front().reason == FinishReason::kLength;
}

json Usage(const JobUsage& usage) {
  return {{"input_tokens", usage.prompt_tokens},
          {"input_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"output_tokens", usage.completion_tokens},
          {"output_tokens_details", {{"reasoning_tokens", 0}}},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

}  // namespace

ResponseWriter::ResponseWriter(CompletionRequest wanted, std::string model)
    : wanted_(std::move(wanted)),
      model_(std::move(model)),
      id_("resp_" + RandomHex()),
      message_id_("msg_" + RandomHex()),
      created_at_(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())) {}

json ResponseWriter::Object(const char* status) const {
  return {{"id", id_},
          {"object", "response"},
          {"created_at", created_at_},
          {"status", status},
          {"model", model_},
          {"output", json::array()},
          {"error", nullptr},
          {"incomplete_details", nullptr},
          {"instructions", nullptr},
          {"metadata", json::object()},
          {"parallel_tool_calls", false},
          {"tool_choice", "none"},
          {"tools", json::array()},
          {"store", false},
          {"truncation", "disabled"},
          {"usage", nullptr}};
}

json ResponseWriter::Message(const char* status, json content) const {
  return {{"type", "message"},
          {"id", message_id_},
          {"role", "assistant"},
          {"status", status},
          {"content", std::move(content)}};
}

json ResponseWriter::Whole(const JobView& view) const {
  const bool cut = IsCut(view);
  const char* status = cut ? "incomplete" : "completed";
  json object = Object(status);
  object["output"].push_back(Message(status, json::array({OutputText(view.Text())})));
  if (cut) object["incomplete_details"] = {{"reason", "max_output_tokens"}};
  object["usage"] = Usage(view.usage);
  return object;
}

void ResponseWriter::AppendEvent(const char* type, json fields, std::string* out) {
  fields["type"] = type;
  fields["sequence_number"] = sequence_++;
  AppendSseEvent(type, JsonBytes(fields), out);
}

std::string ResponseWriter::Begin(const Job& /*job*/) {
  std::string out;
  AppendEvent("response.created", {{"response", Object("in_progress")}}, &out);
  AppendEvent("response.in_progress", {{"response", Object("in_progress")}}, &out);
  AppendEvent("response.output_item.added",
              {{"output_index", 0}, {"item", Message("in_progress", json::array())}}, &out);
  AppendEvent("response.content_part.added",
              {{"item_id", message_id_},
               {"output_index", 0},
               {"content_index", 0},
               {"part", OutputText("")}},
              &out);
  return out;
}

void ResponseWriter::AppendFailure(const Status& failure, std::string* out) {
  const json error = ErrorObject(FailureOf(failure, wanted_))["error"];
  json object = Object("failed");
  object["error"] = {{"code", "server_error"}, {"message", error["message"]}};
  AppendEvent("response.failed", {{"response", std::move(object)}}, out);
}

void ResponseWriter::AppendEnd(const JobView& view, std::string* out) {
  if (view.state != JobState::kSucceeded) {
    AppendFailure(EndOf(view), out);
    return;
  }
  const json place = {{"item_id", message_id_}, {"output_index", 0}, {"content_index", 0}};
  json text = place;
  text["text"] = view.Text();
  text["logprobs"] = json::array();
  AppendEvent("response.output_text.done", std::move(text), out);
  json part = place;
  part["part"] = OutputText(view.Text());
  AppendEvent("response.content_part.done", std::move(part), out);
  json object = Whole(view);
  AppendEvent("response.output_item.done", {{"output_index", 0}, {"item", object["output"][0]}},
              out);
  AppendEvent(IsCut(view) ? "response.incomplete" : "response.completed",
              {{"response", std::move(object)}}, out);
}

void ResponseWriter::Append(const Job& job, const std::vector<JobEvent>& events, size_t skipped,
                            std::string* out) {
  for (const JobEvent& event : events) {
    if (const auto* text = std::get_if<JobText>(&event)) {
      if (text->piece.empty()) continue;
      AppendEvent("response.output_text.delta",
                  {{"item_id", message_id_},
                   {"output_index", 0},
                   {"content_index", 0},
                   {"delta", text->piece},
                   {"logprobs", json::array()}},
                  out);
    } else if (std::holds_alternative<JobFinished>(event)) {
      AppendEnd(job.log().View(), out);
    }
  }
  if (skipped > 0) AppendFailure(LostPieces(), out);
}

}  // namespace idefics
