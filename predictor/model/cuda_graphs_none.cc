// SPDX-License-Identifier: Apache-2.0
// In place of cuda_graphs.cc in builds without CUDA.
#include "predictor/model/cuda_graphs.h"

namespace idefics {

std::unique_ptr<DecodeGraphs> MakeDecodeGraphs(torch::Device /*device*/, int32_t /*scratch_slot*/,
                                               DecodeGraphs::Forward /*forward*/) {
  return nullptr;
}

}  // namespace idefics
