// SPDX-License-Identifier: Apache-2.0
// Downloads of images by how they ended, and their bytes, for the metrics page. Thread safe.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>

#include "common/metrics.h"

namespace idefics {

enum class FetchOutcome { kOk, kHttpError, kTimeout, kTooLarge, kDenied, kNetwork, kCanceled };

class FetchMetrics {
 public:
  FetchMetrics();

  void CountBytes(size_t bytes) { bytes_.Add(bytes); }
  void CountEnd(FetchOutcome outcome, std::chrono::duration<double> took) {
    seconds_[static_cast<size_t>(outcome)].Observe(took.count());
  }

  // Appends all families.
  void AddTo(MetricsPage& page) const;

 private:
  static constexpr size_t kNumOutcomes = static_cast<size_t>(FetchOutcome::kCanceled) + 1;

  std::array<Histogram, kNumOutcomes> seconds_;
  Counter bytes_;
};

}  // namespace idefics
