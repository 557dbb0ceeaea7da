// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/image_encoder.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "common/check.h"

namespace idefics {
namespace {

std::vector<torch::jit::Module> LayersOf(const torch::jit::Module& vision) {
  std::vector<torch::jit::Module> layers;
  for (const torch::jit::Module& layer : vision.attr("layers").toModule().children()) {
    layers.push_back(layer);
  }
  return layers;
}

constexpr size_t kUnitsBesideLayers = 2;

// [M, 3, side, side] on the device.
at::Tensor Upload(std::span<const ImageInput> images, int64_t side, at::Device device) {
  const auto options = at::TensorOptions(at::kFloat).pinned_memory(!device.is_cpu());
  const at::Tensor pixels =
      at::empty({static_cast<int64_t>(images.size()), 3, side, side}, options);
  auto* to = pixels.data_ptr<float>();
  for (const ImageInput& image : images) {
    IDEFICS_CHECK_EQ(static_cast<int64_t>(image.pixels.size()), 3 * side * side);
    to = std::copy(image.pixels.begin(), image.pixels.end(), to);
  }
  return pixels.to(device, /*non_blocking=*/true);
}

}  // namespace

ImageEncoder::ImageEncoder(torch::jit::Module vision, std::vector<ImageCacheTensors> caches,
                           const std::vector<at::Device>& devices)
    : vision_(std::move(vision)),
      layers_(LayersOf(vision_)),
      caches_(std::move(caches)),
      device_(devices.front()),
      queue_(devices, /*urgent=*/false),
      pace_(layers_.size() + kUnitsBesideLayers) {}

void ImageEncoder::Begin(std::span<const ImageInput> images, int64_t side,
                         const DeviceQueue& steps) {
  state_ = vision_.get_method("embed")({Upload(images, side, device_)}).toTensor();
  slots_.clear();
  for (const ImageInput& image : images) slots_.push_back(image.slot);
  next_unit_ = 0;
  slot_is_free_.emplace(steps);
}

bool ImageEncoder::Continue(bool wait) {
  if (next_unit_ < pace_.units()) RunPart();
  if (next_unit_ < pace_.units()) return false;
  if (wait) stored_->Wait();
  return stored_->reached();
}

// On a GPU all of it is started at once: that takes the host less than a step, which runs
// meanwhile.
void ImageEncoder::RunPart() {
  const size_t end = device_.is_cpu() ? pace_.PartEnd(next_unit_) : pace_.units();
  for (; next_unit_ < end; ++next_unit_) {
    const auto began = std::chrono::steady_clock::now();
    RunUnit(next_unit_);
    pace_.NoteUnit(next_unit_, std::chrono::steady_clock::now() - began);
  }
}

void ImageEncoder::RunUnit(size_t unit) {
  if (unit < layers_.size()) {
    state_ = layers_[unit].forward({state_}).toTensor();
  } else if (unit == layers_.size()) {
    state_ = vision_.get_method("pool")({state_}).toTensor();
  } else {
    Store();
  }
}

void ImageEncoder::Store() {
  const auto kv = vision_.get_method("image_kv")({state_}).toTuple();
  slot_is_free_->HoldBack(queue_);
  int64_t first = 0;
  for (const ImageCacheTensors& cache : caches_) {
    const int64_t layers = cache.k.size(0);
    const at::Tensor k = kv->elements()[0].toTensor().narrow(0, first, layers);
    const at::Tensor v = kv->elements()[1].toTensor().narrow(0, first, layers);
    for (size_t i = 0; i < slots_.size(); ++i) {
      const auto image = static_cast<int64_t>(i);
      cache.k.select(1, slots_[i]).copy_(k.select(1, image));
      cache.v.select(1, slots_[i]).copy_(v.select(1, image));
    }
    first += layers;
  }
  state_ = at::Tensor();
  stored_.emplace(queue_);
}

}  // namespace idefics
