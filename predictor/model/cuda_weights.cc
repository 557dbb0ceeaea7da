// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/cuda_weights.h"

#include <unordered_map>

#include "common/progress.h"
#include "predictor/ops/packed_weight.h"
#include "weights/device_copies.h"

#ifdef IDEFICS_WITH_CUDA
#include <ATen/cuda/CUDAContext.h>
#endif

namespace idefics {
namespace {

// Linears are the submodules with a number of columns `n` and a `weight`, quantized ones in a
// bundle also with a `scale` (scripts/export/linears.py).
bool IsPackedLinear(const torch::jit::Module& module) {
  return module.hasattr("n") && module.hasattr("weight") && !module.hasattr("scale") &&
         !IsFp8(module.attr("weight").toTensor());
}

}  // namespace

#ifdef IDEFICS_WITH_CUDA
bool DeviceSupportsFp8(at::Device device) {
  if (!device.is_cuda()) return false;
  const cudaDeviceProp& chip = *at::cuda::getDeviceProperties(device.index());
  return SupportsFp8(chip.major, chip.minor);
}
#else
bool DeviceSupportsFp8(at::Device /*device*/) { return false; }
#endif

void QuantizeWeightsToFp8(const torch::jit::Module& decoder,
                          const std::function<at::Device(const std::string& path)>& device_of) {
  uint64_t bytes = 0;
  for (const at::Tensor& parameter : decoder.parameters()) bytes += parameter.nbytes();
  Progress progress("Loading decoder as fp8", bytes, "B");
  std::unordered_map<at::Device, DeviceCopies> copies;
  for (auto [path, module] : decoder.named_modules()) {
    // lm_head stays as the exporter stores it: it is small, and every token depends on it.
    const bool quantize = IsPackedLinear(module) && path != "lm_head";
    for (const auto& [name, value] : module.named_parameters(/*recurse=*/false)) {
      const at::Device device = device_of(path.empty() ? name : path + "." + name);
      DeviceCopies& here = copies.try_emplace(device, device).first->second;
      here.Add(value);
      const at::Tensor there = here.Run([&](uint64_t copied) { progress.Advance(copied); }).front();
      module.setattr(name, quantize ? QuantizeToFp8(there) : there);
    }
  }
}

void UnpackWeights(const torch::jit::Module& module) {
  for (torch::jit::Module linear : module.modules()) {
    if (!IsPackedLinear(linear)) continue;
    const at::Tensor packed = linear.attr("weight").toTensor();
    const int64_t n = linear.attr("n").toInt();
    const int64_t values = packed.dim() == 4 ? packed.size(3) : 1;
    linear.setattr("weight", UnpackWeight(packed, n, packed.size(1) * values));
  }
}

void DequantizeWeights(const torch::jit::Module& module, at::ScalarType type) {
  for (torch::jit::Module linear : module.modules()) {
    if (!linear.hasattr("n") || !linear.hasattr("scale")) continue;
    const at::Tensor packed = linear.attr("weight").toTensor();
    const at::Tensor scale = linear.attr("scale").toTensor();
    const int64_t k = packed.size(1) * packed.size(3);
    linear.setattr("weight", DequantizeInt8(packed, scale, linear.attr("n").toInt(), k).to(type));
  }
}

}  // namespace idefics
