// SPDX-License-Identifier: Apache-2.0
// What jobs have cost and how they ended, counted for the metrics page
// (docs/operations.md#metrics). A request counts once, before anybody learns of its end: as
// finished, or as rejected. Thread safe.
#pragma once

#include <array>
#include <cstddef>

#include "common/metrics.h"
#include "server/jobs/job.h"
#include "server/jobs/rejection.h"
#include "server/jobs/request_api.h"
#include "server/jobs/task.h"

namespace idefics {

// Why a request was not accepted, or had no slot in time.
enum class RefusalReason {
  kInvalid,
  kTooLarge,
  kBodyTimeout,
  kUnauthorized,
  kNoMemory,
  kTooManyStreams,
  kIdInFlight,
  kQueueFull,
  kQueueTimeout,
  kRateLimited,
  kNotReady,
  kBroken,
  kDraining,
};

RefusalReason ReasonOf(Rejection::Kind kind);

class JobMetrics {
 public:
  JobMetrics();

  // `max_tokens`: that were asked for.
  void CountEnd(const Job& job, const TaskOutcome& outcome, const Status& status, int max_tokens);
  // Of one that never ran.
  void CountUnrun(const Job& job, const Status& status);
  void CountRefusal(RequestApi api, RefusalReason reason) {
    refused_[static_cast<size_t>(api)][static_cast<size_t>(reason)].Add();
  }

  // Appends all families.
  void AddTo(MetricsPage& page) const;

 private:
  static constexpr size_t kNumEnds = 5;  // FinishReason's
  static constexpr size_t kNumReasons = static_cast<size_t>(RefusalReason::kDraining) + 1;
  static constexpr auto kNumErrorCodes = static_cast<size_t>(ErrorCode::kInternal) + 1;

  void CountTokens(const TaskOutcome& outcome, const Histogram::TraceId* trace);
  void AddEndsTo(MetricsPage& page) const;
  void AddRefusalsTo(MetricsPage& page) const;
  void AddErrorsTo(MetricsPage& page) const;
  void AddTimesTo(MetricsPage& page) const;
  void AddSizesTo(MetricsPage& page) const;

  std::array<std::array<Counter, kNumEnds>, kNumRequestApis> finished_;
  std::array<std::array<Counter, kNumReasons>, kNumRequestApis> refused_;
  Counter cached_tokens_;
  Counter images_;
  std::array<Counter, kNumErrorCodes> errors_;
  std::array<Histogram, kNumRequestApis> duration_s_;
  Histogram first_token_s_;
  Histogram queue_s_;
  Histogram preprocess_s_;
  Histogram encode_s_;
  Histogram token_s_;
  Histogram prefill_s_;
  Histogram decode_s_;
  Histogram inference_s_;
  Histogram request_prompt_tokens_;
  Histogram request_generation_tokens_;
  Histogram request_max_tokens_;
  Histogram request_images_;
};

}  // namespace idefics
