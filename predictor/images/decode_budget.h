// SPDX-License-Identifier: Apache-2.0
// What decoding one image may cost. A reader states the price, as far as the header tells it,
// before it allocates pixels or reads a row, and asks between rows, tiles and chunks whether to go
// on. Internal to predictor/images. One image, one thread; only the stop token is shared.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>

#include "common/status.h"
#include "predictor/images/decode.h"

namespace idefics {

struct DecodePrice {
  int64_t width = 0;
  int64_t height = 0;
  int64_t pixel_bytes = 0;  // held for each pixel when most is held, the finished pixels included
  int64_t extra_bytes = 0;  // held besides: a tile, a few rows
};

class DecodeBudget {
 public:
  explicit DecodeBudget(const ImageLimits& limits, DecodeControl control = {});

  const ImageLimits& limits() const { return limits_; }

  // kInvalidInput for an image without pixels, kTooLarge beyond max_side or max_pixels.
  Status CheckSize(int64_t width, int64_t height) const;

  // CheckSize, then kTooLarge beyond max_memory_bytes or what DecodeControl::reserve says. The
  // price of turning and resizing is added here.
  Status Admit(const DecodePrice& price) const;

  // Whether an image whose data is walked so often is beyond max_pixel_passes.
  bool TooManyPasses(int64_t pixels, int64_t passes) const;

  // True from the moment on at which decoding must end: canceled, or out of time.
  bool Interrupted() const;

  // Ok, kCanceled or kDeadline.
  Status Check() const;

 private:
  bool OutOfTime() const { return std::chrono::steady_clock::now() >= deadline_; }

  ImageLimits limits_;
  DecodeControl control_;
  mutable std::chrono::steady_clock::time_point deadline_;  // moves on while memory is waited for
};

// DecodeImage under a budget that more than decoding is counted to.
Result<DecodedImage> DecodeWithin(std::span<const uint8_t> bytes, ImagePolicy policy,
                                  const DecodeBudget& budget);

}  // namespace idefics
