// SPDX-License-Identifier: Apache-2.0
// CUDA versions of the idefics:: operators. linear has none: its reference is cuBLAS there.
#include <torch/library.h>

#include "predictor/ops/cuda/operators.cuh"

TORCH_LIBRARY_IMPL(idefics, CUDA, library) {
  library.impl("rms_norm", idefics::cuda::RmsNorm);
  library.impl("rope_write", idefics::cuda::RopeWrite);
  library.impl("attend", idefics::cuda::Attend);
  library.impl("attend_image", idefics::cuda::AttendImage);
  library.impl("swiglu", idefics::cuda::Swiglu);
}
