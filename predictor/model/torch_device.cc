// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/torch_device.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <torch/cuda.h>
#include <unistd.h>

namespace idefics {
namespace {

// libtorch's CUDA kernels register themselves when their library is loaded, and no symbol of ours
// makes the linker load it. Without a driver or the library there is no CUDA device.
void LoadTorchCuda() {
  if (access("/proc/driver/nvidia/version", F_OK) != 0) return;
  dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL);
}

}  // namespace

Result<at::Device> ChooseDevice(const std::string& name) {
  if (name == "auto" || name.starts_with("cuda")) LoadTorchCuda();
  const at::Device first_cuda(at::kCUDA, 0);
  if (name == "auto") return torch::cuda::is_available() ? first_cuda : at::kCPU;
  try {
    const at::Device device(name);
    if (device.is_cuda() && !torch::cuda::is_available()) {
      return Status::InvalidInput("--device is " + name +
                                  ", but no CUDA device can be used here: use cpu or auto");
    }
    return device.is_cuda() && !device.has_index() ? first_cuda : device;
  } catch (const c10::Error&) {
    return Status::InvalidInput("--device is '" + name + "', it must be auto, cpu, cuda or cuda:N");
  }
}

DeviceQueue::DeviceQueue(at::Device device, bool urgent) {
  if (device.is_cpu()) return;
  stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, urgent);
}

DeviceMark::DeviceMark(const DeviceQueue& queue) {
  if (!queue.stream_) return;
  event_.emplace(queue.stream_->device_type());
  event_->record(*queue.stream_);
}

void DeviceMark::Wait() const {
  if (event_) event_->synchronize();
}

void DeviceMark::HoldBack(const DeviceQueue& queue) const {
  if (event_) event_->block(*queue.stream_);
}

}  // namespace idefics
