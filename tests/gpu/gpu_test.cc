// SPDX-License-Identifier: Apache-2.0
// Everything of CUDA on the device: operators and graphs against the reference, then timings.
// --quick leaves the timings out. Exit status: 0 passed, 1 failed, 77 no GPU.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/core/InferenceMode.h>

#include <cstdio>
#include <string_view>

#include "tests/gpu/gpu_checks.h"

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::string_view(argv[1]) == "--quick";
  if (!at::cuda::is_available()) {
    std::printf("no GPU on this machine: nothing was compared\n");
    return 77;
  }
  const c10::InferenceMode inference;
  const auto* device = at::cuda::getCurrentDeviceProperties();
  std::printf("%s, sm_%d%d, %d processors, %.0f MB of L2\n", device->name, device->major,
              device->minor, device->multiProcessorCount, device->l2CacheSize / 1e6);
  idefics::test::CompareOperators();
  idefics::test::CompareLinears();
  idefics::test::CompareSampling();
  idefics::test::CompareStepGraphs();
  idefics::test::CompareQueues();
  idefics::test::CompareRanks();
  std::printf("%d checks, %d failures\n", idefics::test::outcome.checks,
              idefics::test::outcome.failures);
  if (!quick) {
    idefics::test::TimeDevice();
    idefics::test::TimeLinears();
    idefics::test::TimeOperators();
    idefics::test::TimeSampling();
    idefics::test::TimeSplitLinears();
    idefics::test::TimeRanks();
  }
  return idefics::test::outcome.failures == 0 ? 0 : 1;
}
