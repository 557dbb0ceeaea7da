// SPDX-License-Identifier: Apache-2.0
// predictor/model/torch_device.h on the device: what marks say, and what they hold back.
#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>

#include "predictor/model/torch_device.h"
#include "tests/gpu/gpu_checks.h"

namespace idefics::test {
namespace {

// Some ten milliseconds of work.
at::Tensor WorkLong(const at::Tensor& seed) {
  at::Tensor x = seed;
  for (int i = 0; i < 50; ++i) x = at::tanh(at::mm(x, seed));
  return x;
}

}  // namespace

void CompareQueues() {
  const at::Device device(at::kCUDA, 0);
  const DeviceQueue urgent({device}, true);
  const DeviceQueue patient({device}, false);
  const at::Tensor seed = at::randn({4096, 4096}, at::TensorOptions(device)) * 0.01;
  const at::Tensor expected = WorkLong(seed).clone();
  at::Tensor result = at::zeros_like(seed);
  at::Tensor seen = at::zeros_like(seed);
  at::accelerator::synchronizeDevice(0);
  {
    const auto queue = patient.Use();
    result.copy_(WorkLong(seed));
  }
  const DeviceMark written(patient);
  const bool early = written.reached();
  written.HoldBack(urgent);
  {
    const auto queue = urgent.Use();
    seen.copy_(result);
  }
  const DeviceMark read(urgent);
  read.Wait();
  Expect(!early, "a mark is not reached while the work before it runs");
  Expect(read.reached() && written.reached(), "a mark that was waited for is reached");
  ExpectEqual("what was held back sees the work before the mark", seen.cpu(), expected.cpu());
}

}  // namespace idefics::test
