// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/cuda/fp8_chip.h"

#include <ATen/cuda/CUDAContext.h>

#include "predictor/model/cuda_weights.h"

namespace idefics {

bool HasFp8(torch::Device device) {
  return device.is_cuda() && MultipliesFp8(*at::cuda::getDeviceProperties(device.index()));
}

}  // namespace idefics
