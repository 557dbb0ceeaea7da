// SPDX-License-Identifier: Apache-2.0
// Divides the work of the CPU operators among torch's threads on demand.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

namespace idefics {

// As many multiplications as one thread does until the others are awake.
constexpr int64_t kSerialProducts = 1 << 17;

// Calls run(begin, end) for all items, `share` at a time, on all threads at once. Each thread has a
// run of neighbouring items, so that it reads one stream from memory; one that has finished its own
// takes shares of the others', so a core that is slowed down does less.
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
  at::parallel_for(0, threads, 1, [&](int64_t first, int64_t) {
    for (int64_t i = 0; i < threads; ++i) {
      Part& part = parts[(first + i) % threads];
      while (true) {
        const int64_t begin = part.next.fetch_add(share, std::memory_order_relaxed);
        if (begin >= part.end) break;
        run(begin, std::min(part.end, begin + share));
      }
    }
  });
}

}  // namespace idefics
