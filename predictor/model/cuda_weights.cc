// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/cuda_weights.h"

#include "predictor/ops/packed_weight.h"

namespace idefics {

// Linears are the submodules with a number of columns `n` and a `weight`
// (scripts/export/linears.py).
void UnpackWeights(const torch::jit::Module& module) {
  for (torch::jit::Module linear : module.modules()) {
    if (!linear.hasattr("n") || !linear.hasattr("weight") || linear.hasattr("scale")) continue;
    const torch::Tensor packed = linear.attr("weight").toTensor();
    const int64_t n = linear.attr("n").toInt();
    const int64_t values = packed.dim() == 4 ? packed.size(3) : 1;
    linear.setattr("weight", UnpackWeight(packed, n, packed.size(1) * values));
  }
}

}  // namespace idefics
