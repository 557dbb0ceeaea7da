// SPDX-License-Identifier: Apache-2.0
// Bytes of an image file -> RGB pixels, equal to Pillow 12 with transformers 4.57 around it.
// Formats and known differences: predictor/images/README.md. Stateless; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "common/status.h"
#include "predictor/images/rgb_image.h"

namespace idefics {

enum class OpenMode {
  // A Pillow object handed to transformers (the original predictor's `image`): EXIF orientation is
  // ignored (except in TIFF, where Pillow applies it on load) and alpha goes over white.
  kPillowObject,
  // A URL or data URI in a prompt (transformers' load_image): EXIF orientation is applied, then
  // alpha is dropped: the colour stored under transparent pixels becomes visible.
  kUrl,
};

struct ImageLimits {
  int64_t max_bytes = 100 << 20;     // of the file
  int64_t max_pixels = 178'956'970;  // width * height; Pillow's DecompressionBombError
};

struct DecodedImage {
  RgbImage rgb;
  std::string format;  // Pillow's name: "JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM"
};

// The first frame of the file. kInvalidInput: unknown, damaged or truncated; kTooLarge: over
// limits.
Result<DecodedImage> DecodeImage(std::span<const uint8_t> bytes, OpenMode mode,
                                 const ImageLimits& limits);

}  // namespace idefics
