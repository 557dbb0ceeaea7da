// SPDX-License-Identifier: Apache-2.0
#include "server/api/tgi/tgi_answer.h"

#include <utility>

#include "server/api/json_body.h"
#include "server/api/token_text.h"

namespace idefics {
namespace {

using nlohmann::json;

const char* TgiReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return "length";
    case FinishReason::kStopString:
      return "stop_sequence";
    default:
      return "eos_token";
  }
}

json TokenObject(const Tokenizer& tokenizer, int32_t id, float logprob, std::string text) {
  return {{"id", id},
          {"text", std::move(text)},
          {"logprob", FiniteLogprob(logprob)},
          {"special", tokenizer.IsSpecial(id)}};
}

json TopTokens(const Tokenizer& tokenizer, const TokenLogprobs& token) {
  json top = json::array();
  for (const auto& [id, logprob] : token.top) {
    top.push_back(TokenObject(tokenizer, id, logprob, TokenText(tokenizer, id)));
  }
  return top;
}

FinishReason ReasonOf(const JobView& view) {
  return view.choice_ends.empty() ? FinishReason::kEos : view.choice_ends.front().reason;
}

void AppendData(const json& object, std::string* out) {
  *out += "data:";
  *out += JsonBytes(object);
  *out += "\n\n";
}

}  // namespace

TgiError TgiErrorOf(const Status& failure) {
  switch (failure.code()) {
    case ErrorCode::kInternal:
      return {424, "Request failed during generation; the server's log says why", "generation"};
    case ErrorCode::kOutOfMemory:
      return {424, "Request failed during generation: " + failure.message(), "generation"};
    case ErrorCode::kDeadline:
      return {424, "Request failed during generation: " + failure.message(), "generation"};
    case ErrorCode::kOverloaded:
    case ErrorCode::kNotReady:
    case ErrorCode::kCanceled:
      return {503, failure.message(), "unhealthy"};
    default:
      return {422, "Input validation error: " + failure.message(), "validation"};
  }
}

HttpResponse TgiErrorResponse(const TgiError& error) {
  HttpResponse response = HttpResponse::Json(
      error.status, JsonBytes({{"error", error.message}, {"error_type", error.type}}));
  if (error.status == 429 || error.status == 503) response.headers.emplace_back("Retry-After", "1");
  return response;
}

json TgiAnswer(const JobView& view, const TgiRequest& wanted, const Tokenizer& tokenizer) {
  json answer = {{"generated_text", wanted.echo + view.Text()}};
  if (!wanted.details) return answer;
  json tokens = json::array();
  json tops = json::array();
  for (const JobText& piece : view.pieces) {
    if (piece.tokens == nullptr) continue;
    for (size_t i = 0; i < piece.tokens->ids.size(); ++i) {
      const TokenLogprobs& token = piece.tokens->logprobs[i];
      const int32_t id = piece.tokens->ids[i];
      tokens.push_back(TokenObject(tokenizer, id, token.logprob, TokenText(tokenizer, id)));
      tops.push_back(TopTokens(tokenizer, token));
    }
  }
  json& details = answer["details"];
  details = {{"finish_reason", TgiReasonName(ReasonOf(view))},
             {"generated_tokens", view.usage.completion_tokens},
             {"seed", nullptr},
             {"prefill", json::array()},
             {"tokens", std::move(tokens)}};
  if (wanted.top_n_tokens > 0) details["top_tokens"] = std::move(tops);
  return answer;
}

void TgiStreamWriter::AppendHeld(std::string* out) {
  if (!held_.is_null()) AppendData(held_, out);
  held_ = nullptr;
}

// A piece's text goes with its last token.
void TgiStreamWriter::AppendText(const JobText& text, std::string* out) {
  if (text.tokens == nullptr) return;
  const TokenDetails& tokens = *text.tokens;
  for (size_t i = 0; i < tokens.ids.size(); ++i) {
    AppendHeld(out);
    const bool last = i + 1 == tokens.ids.size();
    held_ = {{"index", ++num_tokens_},
             {"token", TokenObject(tokenizer_, tokens.ids[i], tokens.logprobs[i].logprob,
                                   last ? text.piece : "")},
             {"generated_text", nullptr},
             {"details", nullptr}};
    if (wanted_.top_n_tokens > 0) held_["top_tokens"] = TopTokens(tokenizer_, tokens.logprobs[i]);
  }
}

void TgiStreamWriter::AppendEnd(const JobView& view, std::string* out) {
  if (view.state != JobState::kSucceeded) {
    AppendHeld(out);
    const TgiError error = TgiErrorOf(EndOf(view));
    AppendData({{"error", error.message}, {"error_type", error.type}}, out);
    return;
  }
  if (held_.is_null()) {  // an answer without a token but the one that ends it
    held_ = {{"index", 1}, {"token", TokenObject(tokenizer_, tokenizer_.special().eos, 0, "")}};
  }
  held_["generated_text"] = wanted_.echo + view.Text();
  held_["details"] = {{"finish_reason", TgiReasonName(ReasonOf(view))},
                      {"generated_tokens", view.usage.completion_tokens},
                      {"input_length", view.usage.prompt_tokens},
                      {"seed", nullptr}};
  AppendHeld(out);
}

void TgiStreamWriter::Append(const Job& job, const std::vector<JobEvent>& events, size_t skipped,
                             std::string* out) {
  for (const JobEvent& event : events) {
    if (const auto* text = std::get_if<JobText>(&event)) AppendText(*text, out);
    if (std::holds_alternative<JobFinished>(event)) AppendEnd(job.log().View(), out);
  }
  if (skipped > 0) {
    AppendData({{"error", LostPieces().message()}, {"error_type", "incomplete_generation"}}, out);
  }
}

}  // namespace idefics
