// SPDX-License-Identifier: Apache-2.0
// The runner's device: its choice, its queues of work, and the wall before libtorch's exceptions.
#pragma once

#include <c10/core/Event.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>
#include <torch/types.h>

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "common/status.h"

namespace idefics {

// name: "auto", "cpu", "cuda", "cuda:1". Before anything asks libtorch for CUDA: it remembers the
// answer.
Result<torch::Device> ChooseDevice(const std::string& name);

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

// A copy on the host of `values` as numbers of `type`: on a CPU a view would outlive them. For a
// GPU in pinned memory, so that a copy to it keeps nobody waiting; its allocator gives the memory
// out again only when that copy was made. Throws c10::Error.
template <typename Value>
torch::Tensor HostCopy(const std::vector<Value>& values, torch::ScalarType type,
                       torch::Device device) {
  const size_t bytes = values.size() * sizeof(Value);
  const torch::Tensor host =
      torch::empty({static_cast<int64_t>(bytes / elementSize(type))},
                   torch::TensorOptions(type).pinned_memory(!device.is_cpu()));
  if (bytes > 0) std::memcpy(host.data_ptr(), values.data(), bytes);
  return host;
}

// Work that a GPU does in order: a CUDA stream. A CPU has done the work when the call returns, and
// nothing here does anything. Methods throw c10::Error.
class DeviceQueue {
 public:
  // urgent: before the work of queues that are not, wherever both could run.
  DeviceQueue(torch::Device device, bool urgent);

  // What the calling thread starts goes here while the result lives.
  c10::OptionalStreamGuard Use() const { return c10::OptionalStreamGuard(stream_); }

 private:
  friend class DeviceMark;
  std::optional<c10::Stream> stream_;
};

// A place in a queue: behind all that was in it when the mark was made.
class DeviceMark {
 public:
  explicit DeviceMark(const DeviceQueue& queue);

  bool reached() const { return !event_ || event_->query(); }
  void Wait() const;
  // What comes into the queue from now on runs after the mark.
  void HoldBack(const DeviceQueue& queue) const;

 private:
  std::optional<c10::Event> event_;
};

}  // namespace idefics
