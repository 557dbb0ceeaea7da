// SPDX-License-Identifier: Apache-2.0
#include <ATen/cuda/CUDAContext.h>

#include "predictor/model/cuda_weights.h"

namespace idefics {

bool HasFp8(torch::Device device) {
  if (!device.is_cuda()) return false;
  const auto* const properties = at::cuda::getDeviceProperties(device.index());
  return properties->major * 10 + properties->minor >= 89;
}

}  // namespace idefics
