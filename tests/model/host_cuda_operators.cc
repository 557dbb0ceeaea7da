// SPDX-License-Identifier: Apache-2.0
// The one place where the CUDA kernels are compiled for the host.
#include "predictor/ops/cuda/operators.cuh"
#include "tests/model/operators.h"

namespace idefics::test {

Operators HostCudaOperators() {
  return {"CUDA on the host",    host_cuda::RmsNorm,      host_cuda::AddNorm,
          host_cuda::RopeWrite,  host_cuda::Attend,       host_cuda::AttendImage,
          host_cuda::Swiglu,     host_cuda::LinearPacked, host_cuda::LinearInt8,
          host_cuda::LinearInt4, host_cuda::SampleTokens, host_cuda::GatherLastTokens};
}

void SetHostProcessors(int processors) { host_cuda::host_processors = processors; }

void SetScheduleBackward(bool backward) {
  host_cuda::schedule_order =
      backward ? host_cuda::ScheduleOrder::kBackward : host_cuda::ScheduleOrder::kForward;
}

}  // namespace idefics::test
