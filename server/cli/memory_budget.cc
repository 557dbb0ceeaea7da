// SPDX-License-Identifier: Apache-2.0
#include "server/cli/memory_budget.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "predictor/images/decode_memory.h"

namespace idefics {
namespace {

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

// The number in a file of one number; kUnlimited where it says "max", or is not there.
uint64_t NumberIn(const char* path) {
  std::ifstream in(path);
  uint64_t number = 0;
  return in >> number ? number : kUnlimited;
}

uint64_t AvailableOnMachine() {
  std::ifstream in("/proc/meminfo");
  std::string name;
  uint64_t kibibytes = 0;
  std::string unit;
  while (in >> name >> kibibytes && std::getline(in, unit)) {
    if (name == "MemAvailable:") return kibibytes * 1024;
  }
  return kUnlimited;
}

uint64_t LeftInGroup(const char* limit_file, const char* used_file) {
  const uint64_t limit = NumberIn(limit_file);
  const uint64_t used = NumberIn(used_file);
  if (limit == kUnlimited || used == kUnlimited) return limit;
  return limit - std::min(limit, used);
}

uint64_t TotalBytes(int64_t given) {
  constexpr uint64_t kLeast = 256ULL << 20;
  if (given > 0) return static_cast<uint64_t>(given);
  const uint64_t left =
      std::min({AvailableOnMachine(),
                LeftInGroup("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
                LeftInGroup("/sys/fs/cgroup/memory/memory.limit_in_bytes",
                            "/sys/fs/cgroup/memory/memory.usage_in_bytes")});
  return std::max(kLeast, left / 4);
}

}  // namespace

MemoryBudget DivideMemory(int64_t given) {
  const uint64_t total = TotalBytes(given);
  const uint64_t images = std::min<uint64_t>(DecodeMemory::kAmpleBytes, total / 4);
  return {images, total - images};
}

}  // namespace idefics
