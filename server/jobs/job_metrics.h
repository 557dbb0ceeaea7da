// SPDX-License-Identifier: Apache-2.0
// What jobs have cost and how they ended, counted for the metrics page
// (docs/operations.md#metrics). A job counts once, before anybody learns of its end. Thread safe.
#pragma once

#include <array>
#include <cstddef>

#include "common/metrics.h"
#include "server/jobs/rejection.h"
#include "server/jobs/task.h"

namespace idefics {

class JobMetrics {
 public:
  JobMetrics();

  void CountEnd(const TaskOutcome& outcome, const Status& status);
  // Of one that never had a slot.
  void CountUnrun(TaskClocks::Clock::time_point received, const Status& status);
  // Of a good request, for the state that the service is in.
  void CountRefusal(Rejection::Kind kind);

  // Appends all families.
  void AddTo(MetricsPage& page) const;

 private:
  void AddHistogramsTo(MetricsPage& page) const;

  static constexpr size_t kNumReasons = 5;  // FinishReason's

  std::array<Counter, kNumReasons> finished_;
  Counter refused_unready_;
  Counter refused_broken_;
  Counter refused_draining_;
  Counter refused_full_;
  Counter prompt_tokens_;
  Counter cached_tokens_;
  Counter generation_tokens_;
  Counter images_;
  Histogram first_token_s_;
  Histogram duration_s_;
  Histogram queue_s_;
  Histogram fetch_s_;
  Histogram preprocess_s_;
  Histogram token_s_;
  Histogram decode_s_;
  Histogram request_prompt_tokens_;
  Histogram request_generation_tokens_;
};

}  // namespace idefics
