// SPDX-License-Identifier: Apache-2.0
// What jobs have cost and how they ended, counted for the metrics page
// (docs/operations.md#metrics). A job counts once, before anybody learns of its end. Thread safe.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "common/metrics.h"
#include "server/jobs/rejection.h"
#include "server/jobs/task.h"

namespace idefics {

class JobMetrics {
 public:
  JobMetrics();

  // `max_tokens`: that were asked for. `trace_id`: of the trace that shows it, hex, or "".
  void CountEnd(const TaskOutcome& outcome, const Status& status, int max_tokens,
                std::string_view trace_id);
  // Of one that never had a slot.
  void CountUnrun(TaskClocks::Clock::time_point received, const Status& status);
  // Of a good request, for the state that the service is in.
  void CountRefusal(Rejection::Kind kind);

  // Appends all families.
  void AddTo(MetricsPage& page) const;

 private:
  void CountTokens(const TaskOutcome& outcome, std::string_view trace_id);
  void AddErrorsTo(MetricsPage& page) const;
  void AddTimesTo(MetricsPage& page) const;
  void AddSizesTo(MetricsPage& page) const;

  static constexpr size_t kNumReasons = 5;  // FinishReason's
  static constexpr auto kNumErrorCodes = static_cast<size_t>(ErrorCode::kInternal) + 1;

  std::array<Counter, kNumReasons> finished_;
  Counter refused_unready_;
  Counter refused_broken_;
  Counter refused_draining_;
  Counter refused_full_;
  Counter prompt_tokens_;
  Counter cached_tokens_;
  Counter generation_tokens_;
  Counter images_;
  std::array<Counter, kNumErrorCodes> errors_;
  Histogram first_token_s_;
  Histogram duration_s_;
  Histogram queue_s_;
  Histogram fetch_s_;
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
