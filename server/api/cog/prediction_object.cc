// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/prediction_object.h"

#include <utility>

#include "common/check.h"
#include "common/rfc3339.h"
#include "common/utf8.h"
#include "server/api/metrics_object.h"
#include "server/fetch/data_uri.h"

namespace idefics {
namespace {

using nlohmann::json;

// What a client reads of a failure. Internal ones may name files or devices: those go to the log.
std::string ClientMessage(const Status& failure) {
  switch (failure.code()) {
    case ErrorCode::kInternal:
      return "The prediction failed inside the server; its log says why.";
    case ErrorCode::kFetchFailed:
    case ErrorCode::kForbiddenUrl:
      return "Input validation error: " + failure.message();  // coglet's words
    default:
      return failure.message();
  }
}

size_t NumBytes(const json& value) {
  size_t bytes = sizeof(json);
  if (value.is_string()) bytes += value.get_ref<const std::string&>().size();
  if (!value.is_structured()) return bytes;
  for (const auto& [key, item] : value.items()) bytes += key.size() + NumBytes(item);
  return bytes;
}

size_t NumBytes(const std::optional<std::string>& text) { return text ? text->size() : 0; }

// In place: nothing of a short value is copied or allocated anew.
void Shorten(json* value) {
  constexpr size_t kLongBytes = 1024;
  constexpr size_t kShownBytes = 64;
  if (const auto* text = value->get_ptr<const std::string*>()) {
    if (text->size() <= kLongBytes || !IsDataUri(*text)) return;
    *value = Abbreviate(*text, kShownBytes) + " (" + std::to_string(text->size()) + " bytes)";
  } else if (value->is_structured()) {
    for (json& item : *value) Shorten(&item);
  }
}

}  // namespace

size_t CogContext::num_bytes() const {
  size_t bytes = sizeof(CogContext) + NumBytes(echo) + NumBytes(created_at) + NumBytes(version) +
                 NumBytes(model) + NumBytes(webhook);
  for (const std::string& header : trace_headers) bytes += header.size();
  return bytes;
}

const CogContext* CogContextOf(const Job& job) {
  return dynamic_cast<const CogContext*>(job.context());
}

json ShortenDataUris(json input) {
  Shorten(&input);
  return input;
}

json PredictionObject(const Job& job, const JobView& view) {
  const CogContext* context = CogContextOf(job);
  IDEFICS_CHECK(context != nullptr);
  json object = json::object();  // a list of pairs would be a tree of its own first
  object["id"] = job.id();
  object["status"] = JobStateName(view.state);
  object["input"] = context->echo;
  object["logs"] = view.logs;
  object["metrics"] = MetricsObject(view);
  object["created_at"] = context->created_at ? *context->created_at : Rfc3339(job.received_at());
  if (view.started_at) object["started_at"] = Rfc3339(*view.started_at);
  if (view.completed_at) object["completed_at"] = Rfc3339(*view.completed_at);
  if (view.state == JobState::kFailed) object["error"] = ClientMessage(view.failure);
  if (context->version) object["version"] = *context->version;
  // While it runs the output is the list of pieces in both kinds, as coglet shows it.
  const bool succeeded = view.state == JobState::kSucceeded;
  if (IsTerminal(view.state) && context->output == OutputKind::kString) {
    std::string text = view.Text();
    if (succeeded || !text.empty()) object["output"] = std::move(text);
  } else if (succeeded || !view.pieces.empty()) {
    json& pieces = object["output"] = json::array();
    for (const JobText& piece : view.pieces) pieces.push_back(piece.piece);
  }
  return object;
}

}  // namespace idefics
