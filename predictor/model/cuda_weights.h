// SPDX-License-Identifier: Apache-2.0
// The forms of weights that the CUDA operators like best.
#pragma once

#include <torch/script.h>

namespace idefics {

// Replaces the packed weight of every unquantized linear of the module by W [n, k], which cuBLAS
// reads. One column of zeros more where k is odd in 16 bit. Needs room for one more weight. Throws
// c10::Error.
void UnpackWeights(const torch::jit::Module& module);

}  // namespace idefics
