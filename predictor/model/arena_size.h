// SPDX-License-Identifier: Apache-2.0
// The sizes of the KV arena and the image cache where no flag gives them (--kv-tokens 0,
// --image-cache-slots 0).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

namespace idefics {

// Bytes that this process can still take on the host: what the system has available, or what the
// container's limit (cgroup v2) leaves, whichever is less. `root`: of the file system, for tests.
// 0: unknown.
uint64_t FreeHostBytes(const std::filesystem::path& root = "/");

// Of the free memory, what the KV arena and the image cache take together. The rest is for
// activations, and on a host for other processes.
constexpr double kHostShare = 0.5;
constexpr double kDeviceShare = 0.8;

// Images that fit in a sixteenth of the free memory, 512 at most. At least
// defaults::kLeastImageSlots.
int32_t ImageSlotsThatFit(uint64_t free_bytes, uint64_t bytes_per_image);

// Tokens that fit in `bytes`, at most `max_tokens`, because more could not be used. At least enough
// for a short answer, so that a small machine fails by a real allocation and not by this estimate.
int64_t KvTokensThatFit(uint64_t bytes, uint64_t bytes_per_token, int64_t max_tokens);

struct CacheSizes {
  int64_t kv_tokens = 0;
  int32_t image_slots = 0;
};

// What a device has for its part of the caches.
struct CacheRoom {
  uint64_t free_bytes = 0;
  uint64_t kv_per_token = 0;
  uint64_t per_image = 0;  // 0: none of its layers looks at pictures
};

// `asked`, with what fits on every device in place of its zeros. share: of the free memory, what
// the caches take.
CacheSizes SizesThatFit(CacheSizes asked, std::span<const CacheRoom> devices, double share,
                        int64_t max_kv_tokens);

}  // namespace idefics
