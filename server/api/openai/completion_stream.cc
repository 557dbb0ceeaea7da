// SPDX-License-Identifier: Apache-2.0
#include "server/api/openai/completion_stream.h"

#include <utility>

#include "server/api/json_body.h"
#include "server/api/metrics_object.h"
#include "server/api/openai/openai_error.h"

namespace idefics {
namespace {

using nlohmann::json;

void AppendData(const json& object, std::string* out) {
  *out += "data: ";
  *out += JsonBytes(object);
  *out += "\n\n";
}

}  // namespace

void CompletionStream::AppendChunk(json chunk, std::string* out) {
  if (wanted_.continuous_usage) {
    chunk["usage"] = UsageObject(usage_);
  } else if (wanted_.include_usage) {
    chunk["usage"] = nullptr;
  }
  AppendData(chunk, out);
}

std::string CompletionStream::Begin(const Job& job) {
  usage_ = job.log().End().usage;
  usage_.completion_tokens = 0;
  std::string first;
  for (int choice = 0; choice < wanted_.num_choices; ++choice) {
    AppendChunk(writer_.FirstChunk(choice, wanted_.echoes.empty() ? "" : wanted_.echoes.front()),
                &first);
  }
  return first;
}

// The last bytes: what it has cost, or why it broke off.
void CompletionStream::AppendEnd(const JobView& end, std::string* out) {
  if (end.state != JobState::kSucceeded) {
    AppendData(ErrorObject(FailureOf(EndOf(end), wanted_)), out);
  } else if (wanted_.include_usage) {
    json chunk = writer_.UsageChunk(end.usage);
    chunk["metrics"] = MetricsObject(end);
    AppendData(chunk, out);
  }
  *out += "data: [DONE]\n\n";
}

void CompletionStream::Append(const Job& job, const std::vector<JobEvent>& events, size_t skipped,
                              std::string* out) {
  for (const JobEvent& event : events) {
    if (const auto* text = std::get_if<JobText>(&event)) {
      usage_.completion_tokens += text->num_tokens;
      if (auto chunk = writer_.TextChunk(*text)) AppendChunk(std::move(*chunk), out);
    } else if (const auto* ended = std::get_if<JobChoiceEnded>(&event)) {
      AppendChunk(writer_.EndChunk(*ended), out);
    } else if (std::holds_alternative<JobFinished>(event)) {
      AppendEnd(job.log().End(), out);
    }
  }
  if (skipped == 0) return;
  AppendData(ErrorObject(ErrorOf(LostPieces())), out);
  *out += "data: [DONE]\n\n";
}

}  // namespace idefics
