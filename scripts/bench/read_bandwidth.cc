// SPDX-License-Identifier: Apache-2.0
// How fast this machine reads memory: the yardstick of decode. Prints one line of JSON, GB/s
// (10^9): "anonymous": 2 GiB on huge pages, the best there is; "mapped": a file's pages, as weights
// lie.
//   read_bandwidth FILE [THREADS]
// FILE should be larger than the caches and in the page cache.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <thread>
#include <vector>

#include "scripts/bench/reading.h"

namespace idefics {
namespace {

constexpr size_t kBytes = size_t{2} << 30;
constexpr size_t kShare = size_t{16} << 20;  // what a thread takes at a time
constexpr int kRounds = 5;

using Words = std::span<const uint64_t>;

// Best of kRounds, GB/s.
double Measure(Words words, int threads) {
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::atomic<size_t> next{0};
    std::atomic<uint64_t> result{0};
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> workers;
    for (int i = 0; i < threads; ++i) {
      workers.emplace_back([&] {
        const size_t share = kShare / sizeof(uint64_t);
        for (size_t at = next.fetch_add(share); at < words.size(); at = next.fetch_add(share)) {
          result += SumOf(words.subspan(at, std::min(share, words.size() - at)));
        }
      });
    }
    for (std::thread& worker : workers) worker.join();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(words.size_bytes()) / time.count() / 1e9);
    if (result == 42) std::fputs("", stdout);  // the sum is used
  }
  return best;
}

Words Anonymous() {
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return {};
  madvise(memory, kBytes, MADV_HUGEPAGE);
  std::memset(memory, 1, kBytes);
  return {static_cast<const uint64_t*>(memory), kBytes / sizeof(uint64_t)};
}

Words Mapped(const char* path) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  struct stat status = {};
  if (file < 0 || fstat(file, &status) != 0) return {};
  const size_t bytes = std::min(kBytes, static_cast<size_t>(status.st_size));
  void* memory = bytes == 0 ? MAP_FAILED : mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return {};
  return {static_cast<const uint64_t*>(memory), bytes / sizeof(uint64_t)};
}

}  // namespace
}  // namespace idefics

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("usage: read_bandwidth FILE [THREADS]\n", stderr);
    return 2;
  }
  const int threads =
      argc > 2 ? std::atoi(argv[2]) : static_cast<int>(std::thread::hardware_concurrency());
  using namespace idefics;
  const Words anonymous = Anonymous();
  const Words mapped = Mapped(argv[1]);
  if (anonymous.empty() || mapped.empty() || threads < 1) {
    std::fprintf(stderr, "read_bandwidth: needs 2 GiB of memory and data in %s\n", argv[1]);
    return 1;
  }
  std::printf("{\"threads\": %d, \"anonymous\": %.2f, \"mapped\": %.2f}\n", threads,
              Measure(anonymous, threads), Measure(mapped, threads));
  return 0;
}
