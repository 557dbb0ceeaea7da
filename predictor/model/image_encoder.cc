// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/image_encoder.h"

#include <ATen/ops/from_blob.h>

#include "common/check.h"

namespace idefics {
namespace {

// An image is encoded in this many parts. On a CPU a part takes about as long as a decode step of
// the 9b model; on a GPU starting one takes a fraction of a step.
constexpr size_t kParts = 8;

}  // namespace

ImageEncoder::ImageEncoder(torch::jit::Module vision, ImageCacheTensors cache, at::Device device)
    : vision_(std::move(vision)),
      cache_(std::move(cache)),
      device_(device),
      queue_(device, /*urgent=*/false) {
  for (const torch::jit::Module& layer : vision_.attr("layers").toModule().children()) {
    layers_.push_back(layer);
  }
}

void ImageEncoder::Begin(std::span<const float> pixels, int64_t side, int32_t slot,
                         const DeviceQueue& steps) {
  IDEFICS_CHECK_EQ(static_cast<int64_t>(pixels.size()), 3 * side * side);
  const at::Tensor input =
      at::from_blob(const_cast<float*>(pixels.data()), {1, 3, side, side}, at::kFloat).to(device_);
  patches_ = vision_.get_method("embed")({input}).toTensor();
  slot_ = slot;
  next_part_ = 0;
  slot_is_free_.emplace(steps);
}

bool ImageEncoder::Continue(bool wait) {
  if (next_part_ < kParts) RunPart();
  if (next_part_ < kParts) return false;
  if (wait) stored_->Wait();
  return stored_->reached();
}

void ImageEncoder::RunPart() {
  const size_t end = layers_.size() * (next_part_ + 1) / kParts;
  for (size_t i = layers_.size() * next_part_ / kParts; i < end; ++i) {
    patches_ = layers_[i].forward({patches_}).toTensor();
  }
  if (++next_part_ == kParts) Store();
}

void ImageEncoder::Store() {
  const auto latents = vision_.get_method("pool")({patches_});
  const auto kv = vision_.get_method("image_kv")({latents}).toTuple();
  slot_is_free_->HoldBack(queue_);
  cache_.k.select(1, slot_).copy_(kv->elements()[0].toTensor().select(1, 0));
  cache_.v.select(1, slot_).copy_(kv->elements()[1].toTensor().select(1, 0));
  patches_ = at::Tensor();
  stored_.emplace(queue_);
}

}  // namespace idefics
