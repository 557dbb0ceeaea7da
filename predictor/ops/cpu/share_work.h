// SPDX-License-Identifier: Apache-2.0
// Divides the work of the CPU operators among torch's threads on demand.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace idefics {

// As many multiplications as one thread does until the others are awake.
constexpr int64_t kSerialProducts = 1 << 17;

// Calls run(begin, end) for all items, `share` at a time, on all threads at once. A thread takes
// the next share when it has finished its last one, so a core that is slowed down does less.
// products: multiplications of all items together; the calling thread does a small number of them
// alone.
template <typename Run>
void ShareWork(int64_t items, int64_t share, int64_t products, const Run& run) {
  if (products < kSerialProducts) return run(int64_t{0}, items);
  std::atomic<int64_t> next{0};
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t, int64_t) {
    while (true) {
      const int64_t begin = next.fetch_add(share, std::memory_order_relaxed);
      if (begin >= items) return;
      run(begin, std::min(items, begin + share));
    }
  });
}

}  // namespace idefics
