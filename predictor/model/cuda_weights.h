// SPDX-License-Identifier: Apache-2.0
// The forms of weights that the CUDA operators like best.
#pragma once

#include <torch/script.h>

namespace idefics {

// Whether the device's tensor cores multiply fp8: compute capability 8.9 and more. False where the
// build has no CUDA or `device` is none. Throws c10::Error where there is no such device.
bool HasFp8(torch::Device device);

// Moves the module to the device, and on the way replaces the packed weight of every unquantized
// linear but lm_head by the fp8 form of predictor/ops/packed_weight.h. Besides the result the
// device needs room for one more weight and 100 MiB only. Throws c10::Error.
void QuantizeWeightsToFp8(const torch::jit::Module& decoder, torch::Device device);

// Replaces the packed weight of every unquantized linear of the module by W [n, k], which cuBLAS
// reads. One column of zeros more where k is odd in 16 bit. Leaves fp8 as it is. Needs room for
// one more weight. Throws c10::Error.
void UnpackWeights(const torch::jit::Module& module);

}  // namespace idefics
