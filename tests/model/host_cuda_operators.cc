// SPDX-License-Identifier: Apache-2.0
// The one place where the CUDA kernels are compiled for the host.
#include "predictor/ops/cuda/operators.cuh"
#include "tests/model/operators.h"

namespace idefics::test {

Operators HostCudaOperators() {
  return {"CUDA on the host",    host_cuda::RmsNorm,      host_cuda::AddNorm,
          host_cuda::RopeWrite,  host_cuda::Attend,       host_cuda::AttendImage,
          host_cuda::Swiglu,     host_cuda::LinearPacked, host_cuda::LinearInt8,
          host_cuda::LinearInt4, host_cuda::ChooseTokens, host_cuda::TakeTokens};
}

void SetHostProcessors(int processors) { host_cuda::host_processors = processors; }

void SetHostTurnsBackward(bool backward) {
  host_cuda::turn_order =
      backward ? host_cuda::TurnOrder::kBackward : host_cuda::TurnOrder::kForward;
}

}  // namespace idefics::test
