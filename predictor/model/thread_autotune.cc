// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/thread_autotune.h"

#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <vector>

#include "predictor/ops/cpu/linear.h"

namespace idefics {
namespace {

constexpr int64_t kInputs = 4096;
constexpr int64_t kTiles = 192;  // 48 MiB: more than the caches of a core
constexpr int kRounds = 4;
constexpr double kCloseToBest = 1.15;  // a busy moment must not rule out the second core

}  // namespace

int AutotuneThreads() {
  using Clock = std::chrono::steady_clock;
  std::vector<int> counts;
  for (int count = at::get_num_threads(); count >= 1; count /= 2) counts.push_back(count);
  if (counts.size() == 1) return counts.front();
  const at::Tensor x = at::ones({1, kInputs});
  const at::Tensor weight = at::full({kTiles, kInputs / 4, kTileColumns, 4}, 129, at::kByte);
  const at::Tensor scale = at::ones({kTiles, kTileColumns});
  std::vector<double> best(counts.size(), std::numeric_limits<double>::infinity());
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < counts.size(); ++i) {
      at::set_num_threads(counts[i]);
      const auto start = Clock::now();
      LinearInt8(x, weight, scale, kTiles * kTileColumns, ChooseLinearKernels());
      best[i] = std::min(best[i], std::chrono::duration<double>(Clock::now() - start).count());
    }
  }
  const double limit = *std::min_element(best.begin(), best.end()) * kCloseToBest;
  size_t choice = 0;  // counts are descending
  while (best[choice] > limit) ++choice;
  at::set_num_threads(counts[choice]);
  return counts[choice];
}

}  // namespace idefics
