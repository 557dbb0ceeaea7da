// SPDX-License-Identifier: Apache-2.0
// What a bundle needs on each of several devices, and which GPUs have room for it: arithmetic of
// weights/shard.h and weights/layer_split.h, for `idefics-server inspect`.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "weights/bundle.h"

namespace idefics {

// What a device holds, in bytes.
struct DeviceShare {
  uint64_t weights = 0;
  uint64_t kv_per_token = 0;
  uint64_t per_image = 0;

  // Tokens of KV cache that a device of this many bytes has room for beside the weights and
  // `images` pictures; 0: it has none.
  uint64_t TokensOn(uint64_t device_bytes, uint64_t images) const;
};

// One way to run the bundle.
struct DeviceNeeds {
  int devices = 1;
  std::string flags;  // of the server
  // Of ranks the one that holds most; where the layers are divided, each device's in their order.
  std::vector<DeviceShare> shares;

  // The most that a device holds of each.
  DeviceShare Most() const;
  // As DeviceShare's, of the device that has room for the fewest.
  uint64_t TokensOn(uint64_t device_bytes, uint64_t images) const;
};

// Memory of the usual GPUs, in 10^9 bytes.
constexpr std::array<uint64_t, 4> kGpuGigabytes{24, 48, 80, 141};

// On 1, 2, 4 and 8 devices, as far as the model can be divided within its layers and then by
// layers; with fp8 where the bundle allows it.
std::vector<DeviceNeeds> NeedsOf(const Bundle& bundle, KvDType kv_dtype);

}  // namespace idefics
