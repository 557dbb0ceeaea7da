// SPDX-License-Identifier: Apache-2.0
#include "weights/device_copies.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/ops/empty.h>
#include <c10/core/Event.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

namespace idefics {
namespace {

// As many as saturate PCIe 5: a thread reads pages that are in memory at some 8 GB/s.
constexpr unsigned kMaxLanes = 8;

at::Tensor BytesOf(const at::Tensor& tensor) { return tensor.view(-1).view(at::kByte); }

HeldBytes Hold(const at::Tensor& host) {
  const auto* const data = static_cast<const uint8_t*>(host.const_data_ptr());
  return {{data, host.nbytes()}, std::make_shared<const at::Tensor>(host)};
}

at::Tensor EmptyLike(const at::Tensor& host, at::Device device) {
  TORCH_CHECK(host.is_contiguous() && host.is_cpu());
  return at::empty(host.sizes(), host.options().device(device));
}

}  // namespace

class DeviceCopies::Lane : public CopyLane {
 public:
  Lane(at::Device device, const std::vector<at::Tensor>& targets) : targets_(targets) {
    const auto options = at::TensorOptions(at::kByte).pinned_memory(device.is_cuda());
    for (at::Tensor& buffer : buffers_) {
      buffer = at::empty({static_cast<int64_t>(kStagingBytes)}, options);
    }
    if (!device.is_cuda()) return;
    stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, false);
  }

  std::span<uint8_t> Buffer(size_t buffer) override {
    return {buffers_[buffer].data_ptr<uint8_t>(), kStagingBytes};
  }

  void Start(size_t buffer, size_t bytes, size_t copy, uint64_t offset) override {
    const c10::InferenceMode inference;
    const c10::OptionalStreamGuard queue(stream_);
    const auto count = static_cast<int64_t>(bytes);
    BytesOf(targets_[copy])
        .narrow(0, static_cast<int64_t>(offset), count)
        .copy_(buffers_[buffer].narrow(0, 0, count), /*non_blocking=*/true);
    if (!stream_) return;
    copied_[buffer].emplace(stream_->device_type());
    copied_[buffer]->record(*stream_);
  }

  void Wait(size_t buffer) override {
    if (copied_[buffer]) copied_[buffer]->synchronize();
  }

 private:
  const std::vector<at::Tensor>& targets_;
  at::Tensor buffers_[kStagingBuffers];
  std::optional<c10::Stream> stream_;
  std::optional<c10::Event> copied_[kStagingBuffers];
};

DeviceCopies::DeviceCopies(at::Device device) : device_(device) {
  const unsigned lanes = std::clamp(std::thread::hardware_concurrency(), 1U, kMaxLanes);
  for (unsigned i = 0; i < lanes; ++i) lanes_.push_back(std::make_unique<Lane>(device, targets_));
}

DeviceCopies::~DeviceCopies() {
  lanes_.clear();
  // libtorch would keep the pinned buffers for ever.
  if (device_.is_cuda()) at::getHostAllocator(device_.type())->empty_cache();
}

void DeviceCopies::Add(const at::Tensor& host) {
  targets_.push_back(EmptyLike(host, device_));
  copies_.push_back({host.nbytes(), [host] { return Hold(host); }, /*in_pieces=*/true});
}

void DeviceCopies::AddMade(uint64_t stored_bytes, std::function<at::Tensor()> make) {
  const size_t copy = targets_.size();
  targets_.emplace_back();
  const auto read = [this, copy, make = std::move(make)] {
    const c10::InferenceMode inference;
    const at::Tensor host = make();
    targets_[copy] = EmptyLike(host, device_);
    return Hold(host);
  };
  copies_.push_back({stored_bytes, read, /*in_pieces=*/false});
}

std::vector<at::Tensor> DeviceCopies::Run(const std::function<void(uint64_t)>& on_copied) {
  // The targets may lie where earlier work still reads or writes.
  if (device_.is_cuda()) at::accelerator::synchronizeDevice(device_.index());
  CopyInLanes(copies_, lanes_, on_copied);
  copies_.clear();
  return std::exchange(targets_, {});
}

}  // namespace idefics
