// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/thread_autotune.h"

#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <ctime>
#include <limits>
#include <vector>

#include "common/check.h"
#include "predictor/ops/cpu/linear.h"

namespace idefics {
namespace {

constexpr int64_t kInputs = 4096;
constexpr int64_t kTiles = 192;  // 48 MiB: more than the caches of a core
constexpr int kRounds = 4;
constexpr double kCloseToBest = 1.15;
constexpr int64_t kDecodeRows = 1;   // bound by the memory
constexpr int64_t kPromptRows = 16;  // bound by arithmetic, as pictures are

// Of all threads of this process. A thread that another program keeps waiting uses none, so a start
// on a busy machine ends as one on an idle machine does; one that shares a core uses more.
double CpuSeconds() {
  timespec now{};
  IDEFICS_CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) == 0);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// `best`: seconds of each number of threads, largest number first.
size_t LargestCloseToBest(const std::vector<double>& best) {
  const double limit = *std::min_element(best.begin(), best.end()) * kCloseToBest;
  size_t choice = 0;
  while (best[choice] > limit) ++choice;
  return choice;
}

}  // namespace

int AutotuneThreads() {
  std::vector<int> counts;
  for (int count = at::get_num_threads(); count >= 1; count /= 2) counts.push_back(count);
  if (counts.size() == 1) return counts.front();
  const at::Tensor weight = at::full({kTiles, kInputs / 4, kTileColumns, 4}, 129, at::kByte);
  const at::Tensor scale = at::ones({kTiles, kTileColumns});
  size_t choice = counts.size() - 1;
  for (const int64_t rows : {kDecodeRows, kPromptRows}) {
    const at::Tensor x = at::ones({rows, kInputs});
    std::vector<double> best(counts.size(), std::numeric_limits<double>::infinity());
    for (int round = 0; round < kRounds; ++round) {
      for (size_t i = 0; i < counts.size(); ++i) {
        at::set_num_threads(counts[i]);
        const double start = CpuSeconds();
        LinearInt8(x, weight, scale, kTiles * kTileColumns, ChooseLinearKernels());
        best[i] = std::min(best[i], (CpuSeconds() - start) / counts[i]);
      }
    }
    choice = std::min(choice, LargestCloseToBest(best));
  }
  at::set_num_threads(counts[choice]);
  return counts[choice];
}

}  // namespace idefics
