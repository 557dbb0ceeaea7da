// SPDX-License-Identifier: Apache-2.0
// Divides the work of the CPU operators among the calling thread and its helpers on demand.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "predictor/ops/cpu/worker_threads.h"

namespace idefics {

// As many multiplications as one thread does until the others are awake.
constexpr int64_t kSerialProducts = 1 << 17;

// Calls run(begin, end) for all items, `share` at a time, on as many threads as torch would take.
// Each has a run of neighbouring items, so that it reads one stream from memory; one that has
// finished its own takes shares of the others', so a core that is slowed down does less.
// products: multiplications of all items together; the calling thread does a small number of them
// alone.
template <typename Run>
void ShareWork(int64_t items, int64_t share, int64_t products, const Run& run) {
  if (products < kSerialProducts) return run(int64_t{0}, items);
  struct alignas(64) Part {  // a cache line each
    std::atomic<int64_t> next;
    int64_t end;
  };
  const int64_t threads = at::get_num_threads();
  std::vector<Part> parts(threads);
  for (int64_t i = 0; i < threads; ++i) {
    parts[i].next = items * i / threads;
    parts[i].end = items * (i + 1) / threads;
  }
  const auto take = [&](int first) {
    for (int64_t i = 0; i < threads; ++i) {
      Part& part = parts[(first + i) % threads];
      while (true) {
        const int64_t begin = part.next.fetch_add(share, std::memory_order_relaxed);
        if (begin >= part.end) break;
        run(begin, std::min(part.end, begin + share));
      }
    }
  };
  WorkerThreads::OfThisThread().Run(static_cast<int>(threads), std::ref(take));
}

// The same for rows of which each element costs a few operations.
template <typename Run>
void ShareRows(int64_t rows, int64_t row_elements, const Run& run) {
  constexpr int64_t kProducts = 4;  // that take as long
  const int64_t share = kSerialProducts / kProducts / std::max<int64_t>(1, row_elements);
  ShareWork(rows, std::max<int64_t>(1, share), rows * row_elements * kProducts, run);
}

}  // namespace idefics
