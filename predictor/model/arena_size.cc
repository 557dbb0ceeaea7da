// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/arena_size.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>

#include "common/defaults.h"

namespace idefics {
namespace {

constexpr int64_t kMinTokens = 1024;
constexpr uint64_t kMostImageSlots = 512;

// The number that follows `name` in a file of "name number" lines; an empty name: the first word.
std::optional<uint64_t> NumberIn(const std::filesystem::path& path, const std::string& name) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    if (name.empty()) {
      const bool number = word.find_first_not_of("0123456789") == std::string::npos;
      return number && word.size() < 20 ? std::optional(std::stoull(word)) : std::nullopt;
    }
    uint64_t value = 0;
    if (word == name && file >> value) return value;
  }
  return std::nullopt;
}

}  // namespace

uint64_t FreeHostBytes(const std::filesystem::path& root) {
  const uint64_t system = NumberIn(root / "proc/meminfo", "MemAvailable:").value_or(0) * 1024;
  const auto limit = NumberIn(root / "sys/fs/cgroup/memory.max", "");
  if (!limit) return system;
  const uint64_t used = NumberIn(root / "sys/fs/cgroup/memory.stat", "anon").value_or(0);
  return std::min(system, *limit - std::min(*limit, used));
}

int32_t ImageSlotsThatFit(uint64_t free_bytes, uint64_t bytes_per_image) {
  const uint64_t fit = std::min<uint64_t>(free_bytes / 16 / bytes_per_image, kMostImageSlots);
  return std::max(static_cast<int32_t>(fit), defaults::kLeastImageSlots);
}

int64_t KvTokensThatFit(uint64_t bytes, uint64_t bytes_per_token, int64_t max_tokens) {
  const auto fit = static_cast<int64_t>(bytes / bytes_per_token);
  return std::min(max_tokens, std::max(fit, kMinTokens));
}

CacheSizes SizesThatFit(CacheSizes asked, std::span<const CacheRoom> devices, double share,
                        int64_t max_kv_tokens) {
  CacheSizes sizes = asked;
  for (const CacheRoom& device : devices) {
    if (asked.image_slots > 0 || device.per_image == 0) continue;
    const int32_t fit = ImageSlotsThatFit(device.free_bytes, device.per_image);
    sizes.image_slots = sizes.image_slots == 0 ? fit : std::min(sizes.image_slots, fit);
  }
  for (const CacheRoom& device : devices) {
    if (asked.kv_tokens > 0) continue;
    const auto both = static_cast<uint64_t>(share * static_cast<double>(device.free_bytes));
    const uint64_t images = device.per_image * static_cast<uint64_t>(sizes.image_slots);
    const int64_t fit =
        KvTokensThatFit(both - std::min(both, images), device.kv_per_token, max_kv_tokens);
    sizes.kv_tokens = sizes.kv_tokens == 0 ? fit : std::min(sizes.kv_tokens, fit);
  }
  return sizes;
}

}  // namespace idefics
