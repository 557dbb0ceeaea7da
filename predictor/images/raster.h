// SPDX-License-Identifier: Apache-2.0
// What the readers of the single formats hand to decode.cc, and what they share. Internal to
// predictor/images. Every reader: has its price admitted by the budget before it allocates pixels,
// ends early, with any error, when the budget is interrupted, keeps no state, and may run on any
// thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"
#include "predictor/images/decode.h"
#include "predictor/images/decode_budget.h"

namespace idefics {

struct Raster {
  int width = 0;
  int height = 0;
  int channels = 3;             // 3: RGB, opaque. 4: RGB and straight (not premultiplied) alpha
  std::vector<uint8_t> pixels;  // [height, width, channels]
  int orientation = 1;          // EXIF orientation 1..8, not yet applied to the pixels
  bool orients_itself = false;  // TIFF: Pillow applies the orientation in every ImagePolicy
  std::string format;           // Pillow's name: "JPEG", "PNG", ...
};

using Bytes = std::span<const uint8_t>;

Result<Raster> DecodeJpeg(Bytes file, const DecodeBudget& budget);
Result<Raster> DecodePng(Bytes file, const DecodeBudget& budget);
Result<Raster> DecodeGif(Bytes file, const DecodeBudget& budget);
Result<Raster> DecodeWebp(Bytes file, const DecodeBudget& budget);
Result<Raster> DecodeBmp(Bytes file, const DecodeBudget& budget);
Result<Raster> DecodeTiff(Bytes file, const DecodeBudget& budget);
Result<Raster> DecodeAvif(Bytes file, const DecodeBudget& budget);
Result<Raster> DecodePpm(Bytes file, const DecodeBudget& budget);

// "the JPEG image cannot be read (WHY): send a complete, undamaged file"
Status Unreadable(const std::string& format, const std::string& why);
Status Truncated(const std::string& format);

// Room for [height, width, channels], zeroed. REQUIRES: the budget admitted it.
Raster MakeRaster(const std::string& format, int64_t width, int64_t height, int channels);

// Pillow's CMYK -> RGB (libImaging/Convert.c, cmyk2rgb): 255 - K scaled by each ink, rounded.
void CmykToRgb(const uint8_t* cmyk, uint8_t* rgb);

// 256 RGBA colours. As in Pillow, indices that a file's palette does not reach are opaque black.
struct Palette {
  Palette();
  static Palette GreyRamp();
  uint8_t rgba[256][4];
};

inline uint16_t ReadU16Le(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }
inline uint16_t ReadU16Be(const uint8_t* p) { return static_cast<uint16_t>(p[0] << 8 | p[1]); }
inline uint32_t ReadU32Le(const uint8_t* p) {
  return ReadU16Le(p) | static_cast<uint32_t>(ReadU16Le(p + 2)) << 16;
}
inline uint32_t ReadU32Be(const uint8_t* p) {
  return static_cast<uint32_t>(ReadU16Be(p)) << 16 | ReadU16Be(p + 2);
}

}  // namespace idefics
