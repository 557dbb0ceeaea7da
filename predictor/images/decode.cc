// SPDX-License-Identifier: Apache-2.0
#include "predictor/images/decode.h"

#include <algorithm>
#include <limits>
#include <new>
#include <string_view>
#include <utility>

#include "predictor/images/orientation.h"
#include "predictor/images/raster.h"

namespace idefics {
namespace {

using Reader = Result<Raster> (*)(Bytes file, const ImageLimits& limits);

bool HasAt(Bytes file, size_t offset, std::string_view magic) {
  return file.size() >= offset + magic.size() &&
         std::equal(magic.begin(), magic.end(), file.begin() + static_cast<std::ptrdiff_t>(offset),
                    [](char a, uint8_t b) { return static_cast<uint8_t>(a) == b; });
}

bool IsAvif(Bytes file) {
  return HasAt(file, 4, "ftyp") && (HasAt(file, 8, "avif") || HasAt(file, 8, "avis") ||
                                    HasAt(file, 8, "mif1") || HasAt(file, 8, "msf1"));
}

bool IsTiff(Bytes file) {
  using namespace std::string_view_literals;
  return HasAt(file, 0, "II*\0"sv) || HasAt(file, 0, "MM\0*"sv) || HasAt(file, 0, "II+\0"sv) ||
         HasAt(file, 0, "MM\0+"sv);
}

Reader FindReader(Bytes file) {
  if (HasAt(file, 0, "\xff\xd8\xff")) return DecodeJpeg;
  if (HasAt(file, 0, "\x89PNG\r\n\x1a\n")) return DecodePng;
  if (HasAt(file, 0, "GIF87a") || HasAt(file, 0, "GIF89a")) return DecodeGif;
  if (HasAt(file, 0, "RIFF") && HasAt(file, 8, "WEBP")) return DecodeWebp;
  if (HasAt(file, 0, "BM")) return DecodeBmp;
  if (IsTiff(file)) return DecodeTiff;
  if (IsAvif(file)) return DecodeAvif;
  if (file.size() > 2 && file[0] == 'P' && file[1] >= '1' && file[1] <= '6') return DecodePpm;
  return nullptr;
}

// Alpha over opaque white, rounded to nearest: equal to Pillow's alpha_composite for all inputs.
void CompositeOverWhite(const Raster& raster, RgbImage* rgb) {
  const uint8_t* in = raster.pixels.data();
  uint8_t* out = rgb->pixels.data();
  const size_t count = rgb->pixels.size() / 3;
  for (size_t i = 0; i < count; ++i, in += 4, out += 3) {
    const int alpha = in[3];
    for (int c = 0; c < 3; ++c) {
      out[c] = static_cast<uint8_t>((2 * (in[c] * alpha + 255 * (255 - alpha)) + 255) / 510);
    }
  }
}

void DropAlpha(const Raster& raster, RgbImage* rgb) {
  const uint8_t* in = raster.pixels.data();
  uint8_t* out = rgb->pixels.data();
  const size_t count = rgb->pixels.size() / 3;
  for (size_t i = 0; i < count; ++i, in += 4, out += 3) std::copy_n(in, 3, out);
}

RgbImage Flatten(Raster raster, OpenMode mode) {
  RgbImage rgb{raster.width, raster.height, {}};
  if (raster.channels == 3) {
    rgb.pixels = std::move(raster.pixels);
    return rgb;
  }
  rgb.pixels.resize(raster.pixels.size() / 4 * 3);
  if (mode == OpenMode::kPillowObject) {
    CompositeOverWhite(raster, &rgb);
  } else {
    DropAlpha(raster, &rgb);
  }
  return rgb;
}

Result<DecodedImage> Decode(Bytes bytes, OpenMode mode, const ImageLimits& limits) {
  const Reader reader = FindReader(bytes);
  if (reader == nullptr) {
    return Status::InvalidInput(
        "the image is in no known format: send JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF or PPM");
  }
  ASSIGN_OR_RETURN(Raster raster, reader(bytes, limits));
  DecodedImage image;
  image.format = raster.format;
  const bool orients = mode == OpenMode::kUrl || raster.orients_itself;
  const int orientation = orients ? raster.orientation : 1;
  image.rgb = ApplyOrientation(Flatten(std::move(raster), mode), orientation);
  return image;
}

}  // namespace

Status CheckSize(int64_t width, int64_t height, const ImageLimits& limits) {
  constexpr int64_t kMaxSide = std::numeric_limits<int32_t>::max() / 8;
  const std::string size = std::to_string(width) + "x" + std::to_string(height);
  if (width <= 0 || height <= 0) {
    return Status::InvalidInput("image is " + size +
                                " pixels, at least 1x1 is needed: send a picture with pixels");
  }
  if (width > kMaxSide || height > kMaxSide || width * height > limits.max_pixels) {
    return Status::TooLarge("image is " + size + " pixels, the limit is " +
                            std::to_string(limits.max_pixels) + ": send a smaller picture");
  }
  return Status::Ok();
}

Status Unreadable(const std::string& format, const std::string& why) {
  return Status::InvalidInput("the " + format + " image cannot be read (" + why +
                              "): send a complete, undamaged file");
}

Status Truncated(const std::string& format) { return Unreadable(format, "the file is truncated"); }

Raster MakeRaster(const std::string& format, int64_t width, int64_t height, int channels) {
  Raster raster;
  raster.width = static_cast<int>(width);
  raster.height = static_cast<int>(height);
  raster.channels = channels;
  raster.pixels.resize(static_cast<size_t>(width * height) * static_cast<size_t>(channels));
  raster.format = format;
  return raster;
}

void CmykToRgb(const uint8_t* cmyk, uint8_t* rgb) {
  const int white = 255 - cmyk[3];
  for (int c = 0; c < 3; ++c) {
    const int product = cmyk[c] * white + 128;
    const int ink = ((product >> 8) + product) >> 8;
    rgb[c] = static_cast<uint8_t>(std::clamp(white - ink, 0, 255));
  }
}

Palette::Palette() {
  for (auto& color : rgba) {
    std::fill_n(color, 3, uint8_t{0});
    color[3] = 255;
  }
}

Palette Palette::GreyRamp() {
  Palette palette;
  for (int i = 0; i < 256; ++i) std::fill_n(palette.rgba[i], 3, static_cast<uint8_t>(i));
  return palette;
}

Result<DecodedImage> DecodeImage(std::span<const uint8_t> bytes, OpenMode mode,
                                 const ImageLimits& limits) {
  if (bytes.empty()) {
    return Status::InvalidInput("the image is empty (0 bytes): send the bytes of an image file");
  }
  if (static_cast<int64_t>(bytes.size()) > limits.max_bytes) {
    return Status::TooLarge("the image file is " + std::to_string(bytes.size()) +
                            " bytes, the limit is " + std::to_string(limits.max_bytes) +
                            ": send a smaller file");
  }
  try {
    return Decode(bytes, mode, limits);
  } catch (const std::bad_alloc&) {
    return Status::TooLarge("there is no memory for the pixels of the image: send a smaller one");
  }
}

}  // namespace idefics
