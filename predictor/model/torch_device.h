// SPDX-License-Identifier: Apache-2.0
// The runner's device: choosing it, its queues of work, and the conversion of libtorch's exceptions
// to Status.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>

#include <cstring>
#include <string>
#include <vector>

#include "common/status.h"

namespace idefics {

// name: "auto", "cpu", "cuda", "cuda:1". kInvalidInput: it is no name, or there is no such device.
// REQUIRES: nothing has asked libtorch for CUDA before, because it remembers the first answer.
Result<at::Device> ChooseDevice(const std::string& name);

// Runs `body` and turns what libtorch throws into a Status.
template <typename Body>
Status CatchTorch(const char* what, const Body& body) {
  try {
    const c10::InferenceMode inference;
    body();
    return Status::Ok();
  } catch (const c10::OutOfMemoryError& error) {
    return Status(ErrorCode::kOutOfMemory,
                  std::string(what) + ": out of device memory: " + error.what_without_backtrace());
  } catch (const c10::Error& error) {
    return Status::Internal(std::string(what) + ": " + error.what_without_backtrace());
  } catch (const std::exception& error) {
    return Status::Internal(std::string(what) + ": " + error.what());
  }
}

// A host tensor of `type` with a copy of `values`, which may be gone when the tensor is read. For a
// GPU it is in pinned memory, so that a copy to the device does not wait; the allocator reuses that
// memory only after the copy was made. Throws c10::Error.
template <typename Value>
at::Tensor HostCopy(const std::vector<Value>& values, at::ScalarType type, at::Device device) {
  const size_t bytes = values.size() * sizeof(Value);
  const at::Tensor host = at::empty({static_cast<int64_t>(bytes / elementSize(type))},
                                    at::TensorOptions(type).pinned_memory(!device.is_cpu()));
  if (bytes > 0) std::memcpy(host.data_ptr(), values.data(), bytes);
  return host;
}

// Work that GPUs do, each in order: a CUDA stream on each. What one of them does for another waits
// for that by libtorch's copy between the two. On a CPU the work is done when a call returns, so
// queues and marks do nothing. Methods throw c10::Error.
class DeviceQueue {
 public:
  // urgent: its work is preferred to that of other queues. REQUIRES: distinct GPUs, or CPUs alone.
  DeviceQueue(const std::vector<at::Device>& devices, bool urgent);

  // The calling thread's work goes into this queue while the result lives, to its first device
  // where nothing says to which.
  struct InUse {
    c10::MultiStreamGuard streams;
    c10::DeviceGuard first;
  };
  InUse Use() const { return {c10::MultiStreamGuard(streams_), c10::DeviceGuard(first_)}; }

 private:
  friend class DeviceMark;
  at::Device first_;
  std::vector<c10::Stream> streams_;  // by device; none on CPUs
};

// A position in a queue: after all work that was in it when the mark was made.
class DeviceMark {
 public:
  explicit DeviceMark(const DeviceQueue& queue);

  bool reached() const;
  void Wait() const;
  // Later work in `queue` runs after the mark.
  void HoldBack(const DeviceQueue& queue) const;

 private:
  std::vector<c10::Event> events_;  // by device
};

}  // namespace idefics
