// SPDX-License-Identifier: Apache-2.0
// ImageEncoder: runs the bundle's vision module, a part of a picture at a time, on a queue of its
// own. Engine thread; methods throw c10::Error.
#pragma once

#include <torch/script.h>

#include <optional>
#include <span>
#include <vector>

#include "predictor/model/torch_device.h"

namespace idefics {

// Cross-attention K/V of all pictures, [cross layers, entries, H, L, d] each, in the activations'
// type.
struct ImageTableTensors {
  torch::Tensor k, v;
};

class ImageEncoder {
 public:
  // vision: on `device`. table: as large as it ever gets.
  ImageEncoder(torch::jit::Module vision, ImageTableTensors table, torch::Device device);

  // pixels: [3, side, side], read during the call. steps: the queue of those who read the table;
  // what they were given so far may still read the row's last picture.
  void Begin(std::span<const float> pixels, int64_t side, int32_t entry, const DeviceQueue& steps);

  // As ModelRunner::ContinueImage.
  bool Continue(bool wait);

  const DeviceQueue& queue() const { return queue_; }

 private:
  void RunPart();
  void Store();

  torch::jit::Module vision_;
  std::vector<torch::jit::Module> layers_;
  ImageTableTensors table_;
  const torch::Device device_;
  const DeviceQueue queue_;

  // Of the picture between Begin and its end.
  torch::Tensor patches_;  // [1, P, E] after the layers so far
  int32_t entry_ = -1;
  size_t next_part_ = 0;
  std::optional<DeviceMark> row_is_free_;
  std::optional<DeviceMark> stored_;
};

}  // namespace idefics
