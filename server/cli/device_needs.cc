// SPDX-License-Identifier: Apache-2.0
#include "server/cli/device_needs.h"

#include <algorithm>

#include "predictor/model/arena_size.h"
#include "weights/layer_split.h"
#include "weights/linear_shapes.h"
#include "weights/shard.h"

namespace idefics {
namespace {

constexpr int kDeviceCounts[] = {1, 2, 4, 8};

// The driver, the libraries' kernels and cuBLAS's workspaces.
constexpr uint64_t kRuntimeBytes = 1'500'000'000;

// What fp8 saves of a bundle in 16 bit: half of every linear of the decoder but the head, of which
// the rank has a part. By stage.
std::vector<uint64_t> SavedByFp8(const BundleManifest& manifest, Rank rank,
                                 const LayerSplit& split) {
  std::vector<uint64_t> bytes(static_cast<size_t>(split.stages()));
  if (manifest.quantization != "none" || manifest.dtype == DType::kF32) return bytes;
  for (const ExpectedTensor& linear : DecoderLinears(manifest)) {
    if (linear.name.starts_with("decoder.lm_head.")) continue;
    TensorView view;
    view.name = linear.name;
    view.shape = linear.shape;
    uint64_t numbers = 1;
    for (const int64_t size : ShardShape(manifest, view, rank)) {
      numbers *= static_cast<uint64_t>(size);
    }
    bytes[static_cast<size_t>(split.StageOf(linear.name))] += numbers;  // one of two for each
  }
  return bytes;
}

// The way as it is, and with fp8 where that saves something on every device.
void AddWays(const DeviceNeeds& needs, const std::vector<uint64_t>& saved,
             std::vector<DeviceNeeds>* ways) {
  ways->push_back(needs);
  DeviceNeeds fp8 = needs;
  fp8.flags = "--weights fp8" + (needs.flags.empty() ? "" : " " + needs.flags);
  for (size_t i = 0; i < saved.size(); ++i) {
    if (saved[i] == 0 || saved[i] >= needs.shares[i].weights) return;
    fp8.shares[i].weights -= saved[i];
  }
  ways->push_back(std::move(fp8));
}

DeviceNeeds NeedsOfRanks(const Bundle& bundle, KvDType kv_dtype, Rank rank) {
  const BundleManifest& manifest = bundle.manifest();
  const auto all_heads = static_cast<uint64_t>(manifest.model.num_heads);
  const auto heads = static_cast<uint64_t>(RankHeads(manifest.model, rank).count);
  DeviceNeeds needs;
  needs.devices = rank.count;
  if (rank.count > 1) needs.flags = "--tensor-parallel " + std::to_string(rank.count);
  needs.shares = {{ShardBytes(manifest, bundle.tensors(), rank),
                   manifest.kv_bytes_per_token(kv_dtype) / all_heads * heads,
                   manifest.image_kv_bytes() / all_heads * heads}};
  return needs;
}

DeviceNeeds NeedsOfStages(const Bundle& bundle, KvDType kv_dtype, const LayerSplit& split) {
  DeviceNeeds needs;
  needs.devices = split.stages();
  for (int stage = 0; stage < split.stages(); ++stage) {
    needs.flags += (stage == 0 ? "--device cuda:" : ",cuda:") + std::to_string(stage);
    needs.shares.push_back(
        {0, split.PartOfLayers(bundle.manifest().kv_bytes_per_token(kv_dtype), stage),
         split.PartOfCrossLayers(bundle.manifest().image_kv_bytes(), stage)});
  }
  for (const TensorView& tensor : bundle.tensors()) {
    needs.shares[static_cast<size_t>(split.StageOf(tensor.name))].weights += tensor.bytes.size();
  }
  return needs;
}

}  // namespace

uint64_t DeviceShare::TokensOn(uint64_t device_bytes, uint64_t images) const {
  const uint64_t taken = weights + kRuntimeBytes;
  if (device_bytes <= taken) return 0;
  const auto caches =
      static_cast<uint64_t>(kDeviceShare * static_cast<double>(device_bytes - taken));
  const uint64_t pictures = images * per_image;
  return caches <= pictures ? 0 : (caches - pictures) / std::max<uint64_t>(1, kv_per_token);
}

DeviceShare DeviceNeeds::Most() const {
  DeviceShare most;
  for (const DeviceShare& share : shares) {
    most.weights = std::max(most.weights, share.weights);
    most.kv_per_token = std::max(most.kv_per_token, share.kv_per_token);
    most.per_image = std::max(most.per_image, share.per_image);
  }
  return most;
}

uint64_t DeviceNeeds::TokensOn(uint64_t device_bytes, uint64_t images) const {
  uint64_t fewest = shares.front().TokensOn(device_bytes, images);
  for (const DeviceShare& share : shares) {
    fewest = std::min(fewest, share.TokensOn(device_bytes, images));
  }
  return fewest;
}

std::vector<DeviceNeeds> NeedsOf(const Bundle& bundle, KvDType kv_dtype) {
  const BundleManifest& manifest = bundle.manifest();
  std::vector<DeviceNeeds> ways;
  for (const int devices : kDeviceCounts) {
    if (!CheckRanks(manifest, devices).ok()) break;
    const Rank first{0, devices};  // it holds what is left over
    AddWays(NeedsOfRanks(bundle, kv_dtype, first),
            SavedByFp8(manifest, first, LayerSplit(manifest.model)), &ways);
  }
  for (const int devices : kDeviceCounts) {
    const Result<LayerSplit> split = LayerSplit::Make(manifest.model, bundle.tensors(), devices);
    if (devices == 1 || !split.ok()) continue;
    AddWays(NeedsOfStages(bundle, kv_dtype, *split), SavedByFp8(manifest, {}, *split), &ways);
  }
  return ways;
}

}  // namespace idefics
