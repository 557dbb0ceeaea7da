// SPDX-License-Identifier: Apache-2.0
#include "predictor/images/decode_budget.h"

#include <algorithm>
#include <string>
#include <utility>

namespace idefics {
namespace {

// Held after reading: the finished pixels and the copy into which they may be turned.
constexpr int64_t kTurningBytes = 6;
// The weights of the resize, for each pixel of a side (resize.cc).
constexpr int64_t kTableBytes = 64;

std::string SizeText(int64_t width, int64_t height) {
  return "image is " + std::to_string(width) + "x" + std::to_string(height) + " pixels";
}

}  // namespace

DecodeBudget::DecodeBudget(const ImageLimits& limits, DecodeControl control)
    : limits_(limits),
      control_(std::move(control)),
      deadline_(std::chrono::steady_clock::now() + limits.max_time) {}

Status DecodeBudget::CheckSize(int64_t width, int64_t height) const {
  if (width <= 0 || height <= 0) {
    return Status::InvalidInput(SizeText(width, height) +
                                ", at least 1x1 is needed: send an image with pixels");
  }
  if (width > limits_.max_side || height > limits_.max_side) {
    return Status::TooLarge(SizeText(width, height) + ", the limit of a side is " +
                            std::to_string(limits_.max_side) + ": send a smaller image");
  }
  if (width * height > limits_.max_pixels) {
    return Status::TooLarge(SizeText(width, height) + ", the limit is " +
                            std::to_string(limits_.max_pixels) +
                            " (--max-image-pixels): send a smaller image");
  }
  return Status::Ok();
}

Status DecodeBudget::Admit(const DecodePrice& price) const {
  RETURN_IF_ERROR(CheckSize(price.width, price.height));
  const int64_t num_pixels = price.width * price.height;
  const int64_t bytes =
      std::max(num_pixels * price.pixel_bytes + price.extra_bytes, num_pixels * kTurningBytes) +
      (price.width + price.height) * kTableBytes;
  if (bytes > limits_.max_memory_bytes) {
    return Status::TooLarge(SizeText(price.width, price.height) + " and takes " +
                            std::to_string(bytes) + " bytes to decode, the limit is " +
                            std::to_string(limits_.max_memory_bytes) + ": send a smaller image");
  }
  if (!control_.reserve) return Status::Ok();
  const auto start = std::chrono::steady_clock::now();
  Status reserved = control_.reserve(bytes);
  deadline_ += std::chrono::steady_clock::now() - start;
  return reserved;
}

bool DecodeBudget::TooManyPasses(int64_t pixels, int64_t passes) const {
  return pixels * passes > limits_.max_pixel_passes;
}

bool DecodeBudget::Interrupted() const { return control_.stop.stop_requested() || OutOfTime(); }

Status DecodeBudget::Check() const {
  if (control_.stop.stop_requested()) return Status(ErrorCode::kCanceled, "canceled");
  if (!OutOfTime()) return Status::Ok();
  return Status(ErrorCode::kDeadline, "the image takes longer to decode than the limit of " +
                                          std::to_string(limits_.max_time.count()) +
                                          " ms: send a smaller image");
}

}  // namespace idefics
