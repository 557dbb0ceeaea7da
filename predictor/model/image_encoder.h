// SPDX-License-Identifier: Apache-2.0
// ImageEncoder: runs the bundle's vision module on a device queue of its own: on a CPU a part of an
// image at a time, on a GPU a batch of whole images. Engine thread; methods throw c10::Error.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <optional>
#include <span>
#include <vector>

#include "predictor/model/image_pace.h"
#include "predictor/model/model_runner.h"
#include "predictor/model/torch_device.h"

namespace idefics {

// K and V of all cached images for neighbouring cross layers, each [layers, slots, H, L, d], in the
// activations' type.
struct ImageCacheTensors {
  at::Tensor k, v;
};

class ImageEncoder {
 public:
  // vision: on the first of `devices`. caches: of their final size, together of all cross layers in
  // order, each on its device.
  ImageEncoder(torch::jit::Module vision, std::vector<ImageCacheTensors> caches,
               const std::vector<at::Device>& devices);

  // As ModelRunner::BeginImages, of images [3, side, side]. steps: the queue whose work reads the
  // cache; work that is in it already may still read the slots' previous images.
  void Begin(std::span<const ImageInput> images, int64_t side, const DeviceQueue& steps);

  // As ModelRunner::ContinueImages.
  bool Continue(bool wait);

  // What a decode step took on a CPU.
  void NoteStep(ImagePace::Duration took) { pace_.NoteStep(took); }

  const DeviceQueue& queue() const { return queue_; }

 private:
  void RunPart();
  void RunUnit(size_t unit);
  void Store();

  torch::jit::Module vision_;
  std::vector<torch::jit::Module> layers_;
  const std::vector<ImageCacheTensors> caches_;
  const at::Device device_;  // of vision_
  const DeviceQueue queue_;

  ImagePace pace_;  // units: the layers, then pooling, then the keys and values

  // State of the M images that are being encoded.
  at::Tensor state_;  // [M, P, E] after the layers so far, then the latents [M, L, E]
  std::vector<int32_t> slots_;
  size_t next_unit_ = 0;
  std::optional<DeviceMark> slot_is_free_;
  std::optional<DeviceMark> stored_;
};

}  // namespace idefics
