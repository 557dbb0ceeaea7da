// SPDX-License-Identifier: Apache-2.0
// In place of fp8_chip.cc in builds without CUDA.
#include "predictor/model/cuda_weights.h"

namespace idefics {

bool HasFp8(torch::Device /*device*/) { return false; }

}  // namespace idefics
