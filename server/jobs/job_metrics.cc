// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/job_metrics.h"

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "predictor/engine/engine_meters.h"

namespace idefics {
namespace {

using Clock = TaskClocks::Clock;
using Type = MetricsPage::Type;

// Bounds as vLLM's (vllm/v1/metrics/loggers.py), so that its dashboards fit.
constexpr std::array kRequestSeconds = {.3,  .5,   .8,   1.,   1.5,  2.,    2.5,
                                        5.,  10.,  15.,  20.,  30.,  40.,   50.,
                                        60., 120., 240., 480., 960., 1920., 7680.};
constexpr std::array kFirstTokenSeconds = {.001, .005, .01, .02,  .04,  .06,  .08, .1,
                                           .25,  .5,   .75, 1.,   2.5,  5.,   7.5, 10.,
                                           20.,  40.,  80., 160., 640., 2560.};
constexpr std::array kPartSeconds = {.001, .0025, .005, .01, .025, .05, .1, .25,
                                     .5,   1.,    2.5,  5.,  10.,  30., 60.};
constexpr std::array kEncodeSeconds = {.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1., 2.5};
constexpr std::array kImageCounts = {0., 1., 2., 4., 8., 16., 32., 64.};
constexpr std::array kTokenCounts = {1.,   2.,   5.,   10.,   20.,   50.,
                                     100., 200., 500., 1000., 2000., 5000.};

constexpr std::array kEndNames = {"eos", "length", "stop", "canceled", "error"};
constexpr std::array kRefusalNames = {
    "invalid",          "too_large",    "body_timeout", "unauthorized",  "no_memory",
    "too_many_streams", "id_in_flight", "queue_full",   "queue_timeout", "rate_limited",
    "not_ready",        "broken",       "draining"};

double Between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

FinishReason EndOf(const TaskOutcome& outcome, const Status& status) {
  if (status.code() == ErrorCode::kCanceled) return FinishReason::kCanceled;
  if (!status.ok() || outcome.result.choices.empty()) return FinishReason::kError;
  return outcome.result.choices.front().finish_reason;
}

}  // namespace

RefusalReason ReasonOf(Rejection::Kind kind) {
  using Kind = Rejection::Kind;
  switch (kind) {
    case Kind::kUnreadable:
    case Kind::kUnsupportedMedia:
    case Kind::kInvalid:
      return RefusalReason::kInvalid;
    case Kind::kBodyTooLarge:
      return RefusalReason::kTooLarge;
    case Kind::kBodyTimeout:
      return RefusalReason::kBodyTimeout;
    case Kind::kNoMemory:
      return RefusalReason::kNoMemory;
    case Kind::kTooManyStreams:
      return RefusalReason::kTooManyStreams;
    case Kind::kNotReady:
      return RefusalReason::kNotReady;
    case Kind::kBroken:
      return RefusalReason::kBroken;
    case Kind::kStopping:
      return RefusalReason::kDraining;
    case Kind::kBusy:
      return RefusalReason::kQueueFull;
    case Kind::kIdInFlight:
      return RefusalReason::kIdInFlight;
    case Kind::kClientLimit:
      return RefusalReason::kRateLimited;
  }
  return RefusalReason::kInvalid;
}

JobMetrics::JobMetrics()
    : duration_s_(Histograms<kNumRequestApis>(kRequestSeconds)),
      first_token_s_(kFirstTokenSeconds),
      queue_s_(kRequestSeconds),
      preprocess_s_(kPartSeconds),
      encode_s_(kEncodeSeconds),
      token_s_(EngineMeters::kTokenSeconds),
      prefill_s_(kRequestSeconds),
      decode_s_(kRequestSeconds),
      inference_s_(kRequestSeconds),
      request_prompt_tokens_(kTokenCounts),
      request_generation_tokens_(kTokenCounts),
      request_max_tokens_(kTokenCounts),
      request_images_(kImageCounts) {}

void JobMetrics::CountUnrun(const Job& job, const Status& status) {
  TaskOutcome outcome;
  outcome.clocks.received = job.received();
  outcome.clocks.started = outcome.clocks.completed = Clock::now();
  CountEnd(job, outcome, status, /*max_tokens=*/0);
}

void JobMetrics::CountEnd(const Job& job, const TaskOutcome& outcome, const Status& status,
                          int max_tokens) {
  const GenerateResult& result = outcome.result;
  const TaskClocks& clocks = outcome.clocks;
  const auto api = static_cast<size_t>(job.api());
  const SpanParent& span = job.origin().span;
  const TraceId* trace = span.sink == nullptr ? nullptr : &span.context.trace_id;
  const FinishReason end = EndOf(outcome, status);
  finished_[api][static_cast<size_t>(end)].Add();
  if (end == FinishReason::kError) errors_[static_cast<size_t>(status.code())].Add();
  duration_s_[api].Observe(Between(clocks.received, clocks.completed), trace);
  queue_s_.Observe(Between(clocks.received, clocks.started) + result.timings.queue_s);
  if (result.num_images > 0) preprocess_s_.Observe(result.timings.preprocess_s);
  if (result.choices.empty()) return;  // the engine never had it
  request_max_tokens_.Observe(max_tokens);
  CountTokens(outcome, trace);
}

void JobMetrics::CountTokens(const TaskOutcome& outcome, const Histogram::TraceId* trace) {
  const GenerateResult& result = outcome.result;
  const TaskClocks& clocks = outcome.clocks;
  const GenerateTimings& timings = result.timings;
  size_t num_tokens = 0;
  for (const Choice& choice : result.choices) num_tokens += choice.token_ids.size();
  cached_tokens_.Add(static_cast<uint64_t>(result.num_cached_tokens));
  images_.Add(static_cast<uint64_t>(result.num_images));
  request_prompt_tokens_.Observe(static_cast<double>(result.prompt_token_ids.size()));
  request_generation_tokens_.Observe(static_cast<double>(num_tokens));
  request_images_.Observe(result.num_images);
  if (timings.encode_ended_at != Clock::time_point{}) {
    encode_s_.Observe(Between(timings.encode_began_at, timings.encode_ended_at));
  }
  if (clocks.first_token == Clock::time_point{}) return;
  const double before_s = outcome.fetch_s + timings.preprocess_s + timings.queue_s;
  const double prefill_s = Between(clocks.started, clocks.first_token) - before_s;
  const double decode_s = Between(clocks.first_token, clocks.completed);
  first_token_s_.Observe(Between(clocks.received, clocks.first_token), trace);
  prefill_s_.Observe(prefill_s);
  decode_s_.Observe(decode_s);
  inference_s_.Observe(prefill_s + decode_s);
  if (num_tokens > result.choices.size()) {
    token_s_.Observe(decode_s / static_cast<double>(num_tokens - result.choices.size()));
  }
}

void JobMetrics::AddTo(MetricsPage& page) const {
  AddEndsTo(page);
  AddRefusalsTo(page);
  page.AddCounter({"idefics_cached_prompt_tokens", "vllm:prefix_cache_hits"},
                  "Tokens of prompts that the prefix cache had.", cached_tokens_.value());
  page.AddCounter({"idefics_images"}, "Images of requests that the engine took.", images_.value());
  AddErrorsTo(page);
  AddTimesTo(page);
  AddSizesTo(page);
}

void JobMetrics::AddEndsTo(MetricsPage& page) const {
  constexpr const char* kName = "idefics_requests_finished";
  constexpr const char* kHelp = "Accepted requests by their end.";
  std::array<uint64_t, kNumEnds> all{};
  page.AddFamily(kName, Type::kCounter, kHelp);
  for (size_t api = 0; api < kNumRequestApis; ++api) {
    for (size_t end = 0; end < kNumEnds; ++end) {
      const uint64_t count = finished_[api][end].value();
      all[end] += count;
      page.AddSample(kName, Type::kCounter,
                     {{"api", kRequestApiNames[api]}, {"finish_reason", kEndNames[end]}},
                     static_cast<double>(count));
    }
  }
  if (!page.has_aliases()) return;
  // vLLM knows no end of its own for an error.
  constexpr const char* kAlias = "vllm:request_success";
  const auto of = [&all](FinishReason end) { return all[static_cast<size_t>(end)]; };
  page.AddFamily(kAlias, Type::kCounter, kHelp);
  for (const auto& [name, count] :
       {std::pair("stop", of(FinishReason::kEos) + of(FinishReason::kStopString)),
        std::pair("length", of(FinishReason::kLength)),
        std::pair("abort", of(FinishReason::kCanceled))}) {
    page.AddSample(kAlias, Type::kCounter, {{"finished_reason", name}}, static_cast<double>(count));
  }
}

void JobMetrics::AddRefusalsTo(MetricsPage& page) const {
  constexpr const char* kName = "idefics_requests_rejected";
  page.AddFamily(kName, Type::kCounter, "Requests that were not accepted, by the reason.");
  for (size_t api = 0; api < kNumRequestApis; ++api) {
    for (size_t reason = 0; reason < kNumReasons; ++reason) {
      page.AddSample(kName, Type::kCounter,
                     {{"api", kRequestApiNames[api]}, {"reason", kRefusalNames[reason]}},
                     static_cast<double>(refused_[api][reason].value()));
    }
  }
}

void JobMetrics::AddErrorsTo(MetricsPage& page) const {
  constexpr const char* kName = "idefics_request_errors";
  page.AddFamily(kName, Type::kCounter, "Requests that ended in an error, by its kind.");
  for (size_t i = 0; i < kNumErrorCodes; ++i) {
    const auto code = static_cast<ErrorCode>(i);
    if (code == ErrorCode::kOk || code == ErrorCode::kCanceled) continue;  // no errors
    page.AddSample(kName, Type::kCounter, {{"code", ErrorCodeName(code)}},
                   static_cast<double>(errors_[i].value()));
  }
}

void JobMetrics::AddTimesTo(MetricsPage& page) const {
  page.AddHistogram({"idefics_time_to_first_token_seconds", "vllm:time_to_first_token_seconds"},
                    "From a request's arrival to its first token; waits and downloads included.",
                    first_token_s_);
  std::vector<MetricsPage::Series> durations;
  for (size_t api = 0; api < kNumRequestApis; ++api) {
    durations.push_back({{{"api", kRequestApiNames[api]}}, duration_s_[api]});
  }
  page.AddHistograms({"idefics_request_duration_seconds", "vllm:e2e_request_latency_seconds"},
                     "From a request's arrival to its end.", durations);
  page.AddHistogram({"idefics_request_queue_time_seconds", "vllm:request_queue_time_seconds"},
                    "Waiting for a slot and for a place in the engine.", queue_s_);
  page.AddHistogram({"idefics_request_prefill_time_seconds", "vllm:request_prefill_time_seconds"},
                    "From a request's place in the engine to its first token.", prefill_s_);
  page.AddHistogram({"idefics_request_decode_time_seconds", "vllm:request_decode_time_seconds"},
                    "From a request's first token to its last.", decode_s_);
  page.AddHistogram(
      {"idefics_request_inference_time_seconds", "vllm:request_inference_time_seconds"},
      "From a request's place in the engine to its last token.", inference_s_);
  page.AddHistogram({"idefics_request_time_per_output_token_seconds",
                     "vllm:request_time_per_output_token_seconds"},
                    "Between two tokens of a request, its mean.", token_s_);
  page.AddHistogram({"idefics_image_preprocess_seconds"},
                    "Decoding and resizing of a request's images, and tokenizing.", preprocess_s_);
  page.AddHistogram({"idefics_image_encode_seconds"},
                    "Encoding of a request's images that were not in the image cache.", encode_s_);
}

void JobMetrics::AddSizesTo(MetricsPage& page) const {
  page.AddHistogram({"idefics_request_prompt_tokens", "vllm:request_prompt_tokens"},
                    "Tokens of a request's prompt.", request_prompt_tokens_);
  page.AddHistogram({"idefics_request_generation_tokens", "vllm:request_generation_tokens"},
                    "New tokens of a request.", request_generation_tokens_);
  page.AddHistogram({"", "vllm:request_max_num_generation_tokens"}, "New tokens of a request.",
                    request_generation_tokens_);
  page.AddHistogram({"idefics_request_params_max_tokens", "vllm:request_params_max_tokens"},
                    "New tokens that a request may have.", request_max_tokens_);
  page.AddHistogram({"idefics_request_images"}, "Images of a request.", request_images_);
}

}  // namespace idefics
