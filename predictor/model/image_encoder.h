// SPDX-License-Identifier: Apache-2.0
// ImageEncoder: runs the bundle's vision module, one part of an image at a time, on a device queue
// of its own. Engine thread; methods throw c10::Error.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <optional>
#include <span>
#include <vector>

#include "predictor/model/torch_device.h"

namespace idefics {

// Cross-attention K and V of all cached images, each [cross layers, slots, H, L, d], in the
// activations' type.
struct ImageCacheTensors {
  at::Tensor k, v;
};

class ImageEncoder {
 public:
  // vision: on `device`. cache: of its final size.
  ImageEncoder(torch::jit::Module vision, ImageCacheTensors cache, at::Device device);

  // pixels: [3, side, side], read during the call. steps: the queue whose work reads the cache;
  // work that is in it already may still read the slot's previous image.
  void Begin(std::span<const float> pixels, int64_t side, int32_t slot, const DeviceQueue& steps);

  // As ModelRunner::ContinueImage.
  bool Continue(bool wait);

  const DeviceQueue& queue() const { return queue_; }

 private:
  void RunPart();
  void Store();

  torch::jit::Module vision_;
  std::vector<torch::jit::Module> layers_;
  ImageCacheTensors cache_;
  const at::Device device_;
  const DeviceQueue queue_;

  // State of the image that is being encoded.
  at::Tensor patches_;  // [1, P, E] after the layers so far
  int32_t slot_ = -1;
  size_t next_part_ = 0;
  std::optional<DeviceMark> slot_is_free_;
  std::optional<DeviceMark> stored_;
};

}  // namespace idefics
