// SPDX-License-Identifier: Apache-2.0
// Bytes of an image file -> RGB pixels, equal to Pillow 12 with transformers 4.57 around it.
// Formats and known differences: predictor/images/README.md. Stateless; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <string>

#include "common/defaults.h"
#include "common/status.h"
#include "predictor/images/rgb_image.h"

namespace idefics {

// What becomes of alpha and of EXIF orientation when a file is opened.
enum class ImagePolicy {
  // As a Pillow object handed to transformers (the original predictor's `image`): the orientation
  // is
  // ignored (except in TIFF, where Pillow applies it on load) and alpha goes over white.
  kAlphaOverWhite,
  // As a URL or data URI in a prompt (transformers' load_image): the orientation is applied, then
  // alpha is dropped: the colour stored under transparent pixels becomes visible.
  kUprightAlphaDropped,
};

// What one image may cost. Every limit is judged from the header, before a row is read, except the
// number of scans and the time, which show while reading.
struct ImageLimits {
  int64_t max_bytes = defaults::kMaxImageBytes;    // of the file (--max-image-bytes)
  int64_t max_pixels = defaults::kMaxImagePixels;  // width * height (--max-image-pixels)
  int64_t max_side = 1 << 18;                      // pixels
  int64_t max_memory_bytes = int64_t{1} << 30;     // held at once, by the codec library too
  // Pixels times the scans of a JPEG: 178 scans at 12 megapixels, a dozen at max_pixels.
  int64_t max_pixel_passes = int64_t{1} << 31;
  std::chrono::milliseconds max_time{60'000};
};

// What whoever asks for an image holds over it while it is read.
struct DecodeControl {
  std::stop_token stop;  // obeyed between rows, tiles and chunks
  // Called once, with the bytes that the image takes at most, before they are allocated; may
  // block (decode_memory.h); an error is the answer to the image. Empty: granted.
  std::function<Status(int64_t memory_bytes)> reserve;
};

struct DecodedImage {
  RgbImage rgb;
  std::string format;  // Pillow's name: "JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM"
};

// The first frame of the file. kInvalidInput: unknown, damaged or truncated; kTooLarge: over
// limits; kCanceled: control.stop was requested; kDeadline: limits.max_time is over. WebP and AVIF
// cannot be interrupted while their library decodes (their price holds them to 67 megapixels).
Result<DecodedImage> DecodeImage(std::span<const uint8_t> bytes, ImagePolicy policy,
                                 const ImageLimits& limits, const DecodeControl& control = {});

}  // namespace idefics
