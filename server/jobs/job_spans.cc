// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/job_spans.h"

#include <chrono>
#include <string>
#include <utility>
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
  job.sink->Add(std::move(span));
}

// One after the other; downloads, between the first two, have told of themselves.
void AddParts(const SpanParent& job, const TaskOutcome& outcome) {
  const TaskClocks& clocks = outcome.clocks;
  const GenerateTimings& timings = outcome.result.timings;
  const auto fetched = clocks.started + Seconds(outcome.fetch_s);
  const auto prepared = fetched + Seconds(timings.preprocess_s);
  const auto placed = prepared + Seconds(timings.queue_s);
  AddPart(job, "idefics.slot_queue", clocks.received, clocks.started);
  AddPart(job, "idefics.preprocess", fetched, prepared);
  AddPart(job, "idefics.engine_queue", prepared, placed);
  if (clocks.first_token == Clock::time_point{}) return;
  AddPart(job, "idefics.prefill", placed, clocks.first_token);
  AddPart(job, "idefics.decode", clocks.first_token, clocks.completed);
}

std::vector<SpanAttribute> AttributesOf(const Job& job, const SamplingParams& sampling,
                                        const TaskOutcome& outcome) {
  const GenerateResult& result = outcome.result;
  int64_t num_tokens = 0;
  std::vector<std::string> reasons;
  for (const Choice& choice : result.choices) {
    num_tokens += static_cast<int64_t>(choice.token_ids.size());
    reasons.emplace_back(FinishReasonName(choice.finish_reason));
  }
  std::vector<SpanAttribute> attributes = {
      {"gen_ai.operation.name", std::string("generate_content")},
      {"gen_ai.provider.name", std::string("cog-idefics")},
      {"gen_ai.response.id", job.id()},
      {"gen_ai.request.max_tokens", int64_t{sampling.max_new_tokens}},
      {"gen_ai.request.choice.count", int64_t{sampling.num_choices}},
      {"gen_ai.usage.input_tokens", static_cast<int64_t>(result.prompt_token_ids.size())},
      {"gen_ai.usage.output_tokens", num_tokens},
      {"gen_ai.response.finish_reasons", std::move(reasons)},
      {"idefics.images", int64_t{result.num_images}},
      {"idefics.cached_tokens", result.num_cached_tokens}};
  if (sampling.do_sample) {
    attributes.push_back({"gen_ai.request.temperature", sampling.temperature});
    attributes.push_back({"gen_ai.request.top_p", sampling.top_p});
    attributes.push_back({"gen_ai.request.top_k", int64_t{sampling.top_k}});
  }
  return attributes;
}

}  // namespace

void AddJobSpans(const Job& job, const SamplingParams& sampling, const TaskOutcome& outcome,
                 const Status& status) {
  const RequestOrigin& origin = job.origin();
  if (origin.span.sink == nullptr) return;
  AddParts(origin.span, outcome);
  Span span;
  span.name = "generate_content";
  span.context = origin.span.context;
  span.parent = origin.caller;
  span.trace_state = origin.span.trace_state;
  span.begin = outcome.clocks.received;
  span.end = outcome.clocks.completed;
  span.attributes = AttributesOf(job, sampling, outcome);
  if (!status.ok() && status.code() != ErrorCode::kCanceled) {
    span.error = ErrorCodeName(status.code());
  }
  origin.span.sink->Add(std::move(span));
}

}  // namespace idefics
