// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/job_metrics.h"

#include <chrono>
#include <string>
#include <tuple>
#include <utility>

#include "predictor/engine/engine_meters.h"

namespace idefics {
namespace {

using Clock = TaskClocks::Clock;

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

constexpr std::array<const char*, 5> kReasons = {"eos", "length", "stop", "canceled", "error"};

double Between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

FinishReason ReasonOf(const TaskOutcome& outcome, const Status& status) {
  if (status.code() == ErrorCode::kCanceled) return FinishReason::kCanceled;
  if (!status.ok() || outcome.result.choices.empty()) return FinishReason::kError;
  return outcome.result.choices.front().finish_reason;
}

}  // namespace

JobMetrics::JobMetrics()
    : first_token_s_(kFirstTokenSeconds),
      duration_s_(kRequestSeconds),
      queue_s_(kRequestSeconds),
      fetch_s_(kPartSeconds),
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

void JobMetrics::CountRefusal(Rejection::Kind kind) {
  using Kind = Rejection::Kind;
  if (kind == Kind::kNotReady) refused_unready_.Add();
  if (kind == Kind::kBroken) refused_broken_.Add();
  if (kind == Kind::kStopping) refused_draining_.Add();
  if (kind == Kind::kBusy) refused_full_.Add();
}

void JobMetrics::CountUnrun(Clock::time_point received, const Status& status) {
  TaskOutcome outcome;
  outcome.clocks.received = received;
  outcome.clocks.started = outcome.clocks.completed = Clock::now();
  CountEnd(outcome, status, /*max_tokens=*/0, /*trace_id=*/"");
}

void JobMetrics::CountEnd(const TaskOutcome& outcome, const Status& status, int max_tokens,
                          std::string_view trace_id) {
  const GenerateResult& result = outcome.result;
  const TaskClocks& clocks = outcome.clocks;
  const FinishReason reason = ReasonOf(outcome, status);
  finished_[static_cast<size_t>(reason)].Add();
  if (reason == FinishReason::kError) errors_[static_cast<size_t>(status.code())].Add();
  duration_s_.Observe(Between(clocks.received, clocks.completed), trace_id);
  queue_s_.Observe(Between(clocks.received, clocks.started) + result.timings.queue_s);
  if (result.num_images > 0) {
    fetch_s_.Observe(outcome.fetch_s);
    preprocess_s_.Observe(result.timings.preprocess_s);
  }
  if (result.choices.empty()) return;  // the engine never had it
  request_max_tokens_.Observe(max_tokens);
  CountTokens(outcome, trace_id);
}

void JobMetrics::CountTokens(const TaskOutcome& outcome, std::string_view trace_id) {
  const GenerateResult& result = outcome.result;
  const TaskClocks& clocks = outcome.clocks;
  const GenerateTimings& timings = result.timings;
  size_t num_tokens = 0;
  for (const Choice& choice : result.choices) num_tokens += choice.token_ids.size();
  prompt_tokens_.Add(result.prompt_token_ids.size());
  cached_tokens_.Add(static_cast<uint64_t>(result.num_cached_tokens));
  generation_tokens_.Add(num_tokens);
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
  first_token_s_.Observe(Between(clocks.received, clocks.first_token), trace_id);
  prefill_s_.Observe(prefill_s);
  decode_s_.Observe(decode_s);
  inference_s_.Observe(prefill_s + decode_s);
  if (num_tokens > result.choices.size()) {
    token_s_.Observe(decode_s / static_cast<double>(num_tokens - result.choices.size()));
  }
}

void JobMetrics::AddTo(MetricsPage& page) const {
  using Type = MetricsPage::Type;
  page.AddFamily("idefics_requests_finished", Type::kCounter, "Accepted requests by their end.");
  for (size_t i = 0; i < kNumReasons; ++i) {
    page.AddSample("idefics_requests_finished", Type::kCounter, {{"finish_reason", kReasons[i]}},
                   static_cast<double>(finished_[i].value()));
  }
  // vLLM knows no end of its own for an error.
  page.AddFamily("vllm:request_success", Type::kCounter, "Accepted requests by their end.");
  const auto sum = [this](FinishReason a, FinishReason b) {
    const auto value = [this](FinishReason reason) {
      return finished_[static_cast<size_t>(reason)].value();
    };
    return static_cast<double>(a == b ? value(a) : value(a) + value(b));
  };
  for (const auto& [name, a, b] :
       {std::tuple("stop", FinishReason::kEos, FinishReason::kStopString),
        std::tuple("length", FinishReason::kLength, FinishReason::kLength),
        std::tuple("abort", FinishReason::kCanceled, FinishReason::kCanceled)}) {
    page.AddSample("vllm:request_success", Type::kCounter, {{"finished_reason", name}}, sum(a, b));
  }
  constexpr const char* kRejected = "idefics_requests_rejected";
  page.AddFamily(kRejected, Type::kCounter, "Good requests that were not accepted, by the reason.");
  for (const auto& [reason, counter] :
       {std::pair("not_ready", &refused_unready_), std::pair("broken", &refused_broken_),
        std::pair("draining", &refused_draining_), std::pair("queue_full", &refused_full_)}) {
    page.AddSample(kRejected, Type::kCounter, {{"reason", reason}},
                   static_cast<double>(counter->value()));
  }
  page.AddCounter({"idefics_prompt_tokens", "vllm:prompt_tokens"},
                  "Tokens of prompts that the engine took.", prompt_tokens_.value());
  page.AddCounter({"idefics_cached_prompt_tokens", "vllm:prefix_cache_hits"},
                  "Tokens of prompts that the prefix cache had.", cached_tokens_.value());
  page.AddCounter({"idefics_generation_tokens", "vllm:generation_tokens"}, "New tokens.",
                  generation_tokens_.value());
  page.AddCounter({"idefics_images"}, "Images of requests that the engine took.", images_.value());
  AddErrorsTo(page);
  AddTimesTo(page);
  AddSizesTo(page);
}

void JobMetrics::AddErrorsTo(MetricsPage& page) const {
  constexpr const char* kName = "idefics_request_errors";
  page.AddFamily(kName, MetricsPage::Type::kCounter,
                 "Requests that ended in an error, by its kind.");
  for (size_t i = 0; i < kNumErrorCodes; ++i) {
    const auto code = static_cast<ErrorCode>(i);
    if (code == ErrorCode::kOk || code == ErrorCode::kCanceled) continue;  // no errors
    page.AddSample(kName, MetricsPage::Type::kCounter, {{"code", ErrorCodeName(code)}},
                   static_cast<double>(errors_[i].value()));
  }
}

void JobMetrics::AddTimesTo(MetricsPage& page) const {
  page.AddHistogram({"idefics_time_to_first_token_seconds", "vllm:time_to_first_token_seconds"},
                    "From a request's arrival to its first token; waits and downloads included.",
                    first_token_s_);
  page.AddHistogram({"idefics_request_duration_seconds", "vllm:e2e_request_latency_seconds"},
                    "From a request's arrival to its end.", duration_s_);
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
  page.AddHistogram({"idefics_image_fetch_seconds"}, "Downloads of a request's images.", fetch_s_);
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
  page.AddHistogram({"idefics_request_params_max_tokens", "vllm:request_params_max_tokens"},
                    "New tokens that a request may have.", request_max_tokens_);
  page.AddHistogram({"idefics_request_images"}, "Images of a request.", request_images_);
}

}  // namespace idefics
