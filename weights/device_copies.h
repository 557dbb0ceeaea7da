// SPDX-License-Identifier: Apache-2.0
// Tensors on their way to a device, by several threads and queues (staged_copy.h). A GPU copies
// from pinned memory, beside the reading of files. One thread uses it. Methods throw c10::Error.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

#include "weights/staged_copy.h"

namespace idefics {

class DeviceCopies {
 public:
  explicit DeviceCopies(at::Device device);
  ~DeviceCopies();
  DeviceCopies(const DeviceCopies&) = delete;
  DeviceCopies& operator=(const DeviceCopies&) = delete;

  // Adds a contiguous tensor of the host.
  void Add(const at::Tensor& host);
  // Adds what make() gives, contiguous and on the host, made of `stored_bytes`: on the thread that
  // copies it, so that no more of these live at once than there are threads.
  void AddMade(uint64_t stored_bytes, std::function<at::Tensor()> make);

  // Copies all that was added and gives it in that order, on the device, complete. on_copied: as
  // CopyInLanes.
  std::vector<at::Tensor> Run(const std::function<void(uint64_t)>& on_copied);

 private:
  class Lane;

  const at::Device device_;
  std::vector<StagedCopy> copies_;
  std::vector<at::Tensor> targets_;  // by copy; of what is not made yet undefined
  std::vector<std::unique_ptr<CopyLane>> lanes_;
};

}  // namespace idefics
