// SPDX-License-Identifier: Apache-2.0
// CUDA versions of the idefics:: operators.
#include <torch/library.h>

#include "predictor/ops/cuda/operators.cuh"

TORCH_LIBRARY_IMPL(idefics, CUDA, library) {
  library.impl("rms_norm", idefics::cuda::RmsNorm);
  library.impl("add_norm", idefics::cuda::AddNorm);
  library.impl("rope_write", idefics::cuda::RopeWrite);
  library.impl("attend", idefics::cuda::Attend);
  library.impl("attend_image", idefics::cuda::AttendImage);
  library.impl("linear_packed", idefics::cuda::LinearPacked);
  library.impl("linear_int8", idefics::cuda::LinearInt8);
  library.impl("linear_int4", idefics::cuda::LinearInt4);
  library.impl("swiglu", idefics::cuda::Swiglu);
  library.impl("sample_tokens", idefics::cuda::SampleTokens);
  library.impl("gather_last_tokens", idefics::cuda::GatherLastTokens);
}
