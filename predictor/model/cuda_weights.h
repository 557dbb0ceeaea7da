// SPDX-License-Identifier: Apache-2.0
// Converts a loaded module's weights to the forms that the CUDA operators read fastest.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <functional>
#include <string>

namespace idefics {

// Whether the device's tensor cores multiply fp8: compute capability 8.9 and more. False in a build
// without CUDA and for a CPU. Throws c10::Error where there is no such device.
bool DeviceSupportsFp8(at::Device device);

// Moves each parameter to its device, by its path, and replaces the packed weight of every linear
// that is not quantized, except lm_head, by the fp8 form of predictor/ops/packed_weight.h. A device
// needs room for the result, one more weight and 100 MiB. Throws c10::Error.
void QuantizeWeightsToFp8(const torch::jit::Module& decoder,
                          const std::function<at::Device(const std::string& path)>& device_of);

// Replaces the packed weight of every linear of the module that is not quantized by W [n, k], which
// cuBLAS reads; in 16 bit an odd k gets one more column of zeros. Leaves fp8 weights as they are.
// Needs room for one more weight. Throws c10::Error.
void UnpackWeights(const torch::jit::Module& module);

// Replaces the weight of every int8 linear of the module by W [n, k] in `type`, which linear_int8
// takes on a GPU: for many rows, as pictures have, cuBLAS is faster with W as it is. Needs room for
// the result. Throws c10::Error.
void DequantizeWeights(const torch::jit::Module& module, at::ScalarType type);

}  // namespace idefics
