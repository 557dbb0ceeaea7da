// SPDX-License-Identifier: Apache-2.0
#include "server/cli/device_needs.h"

#include <algorithm>

#include "predictor/model/arena_size.h"
#include "weights/linear_shapes.h"
#include "weights/shard.h"

namespace idefics {
namespace {

// The driver, the libraries' kernels and cuBLAS's workspaces.
constexpr uint64_t kRuntimeBytes = 1'500'000'000;

// What fp8 saves of a bundle in 16 bit: half of every linear of the decoder but the head.
uint64_t SavedByFp8(const BundleManifest& manifest, Rank rank) {
  uint64_t bytes = 0;
  for (const ExpectedTensor& linear : DecoderLinears(manifest)) {
    if (linear.name.starts_with("decoder.lm_head.")) continue;
    TensorView view;
    view.name = linear.name;
    view.shape = linear.shape;
    uint64_t numbers = 1;
    for (const int64_t size : ShardShape(manifest, view, rank)) {
      numbers *= static_cast<uint64_t>(size);
    }
    bytes += numbers;  // one of the two that each has
  }
  return bytes;
}

}  // namespace

uint64_t DeviceNeeds::TokensOn(uint64_t device_bytes, uint64_t images) const {
  const uint64_t taken = weights + kRuntimeBytes;
  if (device_bytes <= taken) return 0;
  const auto caches =
      static_cast<uint64_t>(kDeviceShare * static_cast<double>(device_bytes - taken));
  const uint64_t pictures = images * per_image;
  return caches <= pictures ? 0 : (caches - pictures) / std::max<uint64_t>(1, kv_per_token);
}

std::vector<DeviceNeeds> NeedsOf(const Bundle& bundle, KvDType kv_dtype) {
  const BundleManifest& manifest = bundle.manifest();
  const auto all_heads = static_cast<uint64_t>(manifest.model.num_heads);
  const bool fp8 = manifest.quantization == "none" && manifest.dtype != DType::kF32;
  std::vector<DeviceNeeds> ways;
  for (const int devices : {1, 2, 4, 8}) {
    if (!CheckRanks(manifest, devices).ok()) break;
    const Rank first{0, devices};  // it holds what is left over
    const auto heads = static_cast<uint64_t>(RankHeads(manifest.model, first).count);
    DeviceNeeds needs;
    needs.devices = devices;
    if (devices > 1) needs.flags = "--tensor-parallel " + std::to_string(devices);
    needs.weights = ShardBytes(manifest, bundle.tensors(), first);
    needs.kv_per_token = manifest.kv_bytes_per_token(kv_dtype) / all_heads * heads;
    needs.per_image = manifest.image_kv_bytes() / all_heads * heads;
    ways.push_back(needs);
    const uint64_t saved = fp8 ? SavedByFp8(manifest, first) : 0;
    if (saved == 0 || saved >= needs.weights) continue;
    needs.flags = "--weights fp8" + (needs.flags.empty() ? "" : " " + needs.flags);
    needs.weights -= saved;
    ways.push_back(needs);
  }
  return ways;
}

}  // namespace idefics
