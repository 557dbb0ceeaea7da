// SPDX-License-Identifier: Apache-2.0
// Work of the CPU operators among torch's threads, by demand.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace idefics {

// Multiplications that one thread has done when the others are awake.
constexpr int64_t kSerialProducts = 1 << 17;

// Calls run(begin, end) until all items are done, `share` at a time, on all threads at once. Each
// thread takes the next ones when it is done with its last: a core that somebody else slows down
// does less. products: multiplications of all items; few are done by the calling thread.
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
