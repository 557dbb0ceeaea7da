// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/torch_device.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <torch/cuda.h>
#include <unistd.h>

#include <algorithm>

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
    const auto gpus = static_cast<int64_t>(device.is_cuda() ? torch::cuda::device_count() : 0);
    if (device.is_cuda() && gpus == 0) {
      return Status::InvalidInput("no CUDA device can be used here, and " + name +
                                  " was asked for: use cpu or auto");
    }
    if (device.is_cuda() && device.index() >= gpus) {
      return Status::InvalidInput("there is no " + name +
                                  " here: the last one is cuda:" + std::to_string(gpus - 1));
    }
    return device.is_cuda() && !device.has_index() ? first_cuda : device;
  } catch (const c10::Error&) {
    return Status::InvalidInput("'" + name + "' is no device: use auto, cpu, cuda or cuda:N");
  }
}

DeviceQueue::DeviceQueue(const std::vector<at::Device>& devices, bool urgent)
    : first_(devices.front()) {
  for (const at::Device device : devices) {
    if (device.is_cpu()) continue;
    streams_.push_back(
        c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, urgent));
  }
}

DeviceMark::DeviceMark(const DeviceQueue& queue) {
  for (const c10::Stream& stream : queue.streams_) {
    events_.emplace_back(stream.device_type()).record(stream);
  }
}

bool DeviceMark::reached() const {
  return std::ranges::all_of(events_, [](const c10::Event& event) { return event.query(); });
}

void DeviceMark::Wait() const {
  for (const c10::Event& event : events_) event.synchronize();
}

void DeviceMark::HoldBack(const DeviceQueue& queue) const {
  for (const c10::Event& event : events_) {
    for (const c10::Stream& stream : queue.streams_) event.block(stream);
  }
}

}  // namespace idefics
