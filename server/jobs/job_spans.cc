// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/job_spans.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <memory_resource>
#include <span>
#include <string_view>
#include <vector>

namespace idefics {
namespace {

using Clock = Span::Clock;

Clock::duration Seconds(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// Parts that took no time are left out: they were not there.
void AddPart(const SpanParent& job, const char* name, Clock::time_point begin,
             Clock::time_point end) {
  if (end <= begin) return;
  Span span = job.Child(name, Span::Kind::kInternal, begin);
  span.end = end;
  job.sink->Add(span);
}

// Who finds a place free is looked at for some microseconds, too.
void AddWait(const SpanParent& job, const char* name, Clock::time_point begin,
             Clock::time_point end) {
  constexpr auto kLeast = std::chrono::microseconds(200);
  if (end - begin >= kLeast) AddPart(job, name, begin, end);
}

// One after the other, but that images are encoded while the prompt waits for them; downloads,
// between the first two, have told of themselves.
void AddParts(const SpanParent& job, const TaskOutcome& outcome) {
  const TaskClocks& clocks = outcome.clocks;
  const GenerateTimings& timings = outcome.result.timings;
  const auto fetched = clocks.started + Seconds(outcome.fetch_s);
  const auto prepared = fetched + Seconds(timings.preprocess_s);
  const auto placed = prepared + Seconds(timings.queue_s);
  AddWait(job, "idefics.slot_queue", clocks.received, clocks.started);
  AddPart(job, "idefics.preprocess", fetched, prepared);
  AddWait(job, "idefics.engine_queue", prepared, placed);
  AddPart(job, "idefics.encode", timings.encode_began_at, timings.encode_ended_at);
  if (clocks.first_token == Clock::time_point{}) return;
  AddPart(job, "idefics.prefill", placed, clocks.first_token);
  AddPart(job, "idefics.decode", clocks.first_token, clocks.completed);
}

}  // namespace

void AddJobSpans(const Job& job, const AskedSampling& sampling, const TaskOutcome& outcome,
                 const Status& status) {
  const RequestOrigin& origin = job.origin();
  if (origin.span.sink == nullptr) return;
  AddParts(origin.span, outcome);
  const GenerateResult& result = outcome.result;
  int64_t num_tokens = 0;
  std::array<std::byte, 256> room;  // enough for most, without an allocation
  std::pmr::monotonic_buffer_resource memory(room.data(), room.size());
  std::pmr::vector<std::string_view> reasons(&memory);
  reasons.reserve(result.choices.size());
  for (const Choice& choice : result.choices) {
    num_tokens += static_cast<int64_t>(choice.token_ids.size());
    reasons.emplace_back(FinishReasonName(choice.finish_reason));
  }
  std::array<SpanAttribute, 13> attributes = {
      {{"gen_ai.operation.name", std::string_view("generate_content")},
       {"gen_ai.provider.name", std::string_view("cog-idefics")},
       {"gen_ai.response.id", std::string_view(job.id())},
       {"gen_ai.request.max_tokens", int64_t{sampling.max_new_tokens}},
       {"gen_ai.request.choice.count", int64_t{sampling.num_choices}},
       {"gen_ai.usage.input_tokens", static_cast<int64_t>(result.prompt_token_ids.size())},
       {"gen_ai.usage.output_tokens", num_tokens},
       {"gen_ai.response.finish_reasons", std::span<const std::string_view>(reasons)},
       {"idefics.images", int64_t{result.num_images}},
       {"idefics.cached_tokens", result.num_cached_tokens},
       {"gen_ai.request.temperature", sampling.temperature},
       {"gen_ai.request.top_p", sampling.top_p},
       {"gen_ai.request.top_k", int64_t{sampling.top_k}}}};
  constexpr size_t kOfSamples = 3;  // the last ones say how tokens were drawn
  Span span;
  span.name = "generate_content";
  span.context = origin.span.context;
  span.parent = origin.caller;
  span.trace_state = origin.span.trace_state;
  span.begin = outcome.clocks.received;
  span.end = outcome.clocks.completed;
  span.attributes =
      std::span(attributes).first(attributes.size() - (sampling.do_sample ? 0 : kOfSamples));
  const bool failed = !status.ok() && status.code() != ErrorCode::kCanceled;
  if (failed) span.error = ErrorCodeName(status.code());
  origin.span.sink->Add(span);
}

}  // namespace idefics
