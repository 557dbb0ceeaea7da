// SPDX-License-Identifier: Apache-2.0
#include "predictor/images/decode.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>
#include <vector>

#include "predictor/images/decode_budget.h"
#include "predictor/images/orientation.h"
#include "predictor/images/raster.h"

namespace idefics {
namespace {

using Reader = Result<Raster> (*)(Bytes file, const DecodeBudget& budget);
using std::string_view_literals::operator""sv;

// A kind of file: how it begins, and who reads it. Several rows may have one name.
struct Format {
  std::string_view name;  // as people write it
  std::string_view magic;
  size_t more_at = 0;
  std::string_view more;  // has to stand at more_at besides
  Reader reader = nullptr;
};

constexpr Format kFormats[] = {
    {"JPEG", "\xff\xd8\xff"sv, 0, {}, DecodeJpeg},
    {"PNG", "\x89PNG\r\n\x1a\n"sv, 0, {}, DecodePng},
    {"GIF", "GIF87a"sv, 0, {}, DecodeGif},
    {"GIF", "GIF89a"sv, 0, {}, DecodeGif},
    {"WebP", "RIFF"sv, 8, "WEBP"sv, DecodeWebp},
    {"BMP", "BM"sv, 0, {}, DecodeBmp},
    {"TIFF", "II*\0"sv, 0, {}, DecodeTiff},
    {"TIFF", "MM\0*"sv, 0, {}, DecodeTiff},
    {"TIFF", "II+\0"sv, 0, {}, DecodeTiff},
    {"TIFF", "MM\0+"sv, 0, {}, DecodeTiff},
    {"AVIF", {}, 4, "ftypavif"sv, DecodeAvif},
    {"AVIF", {}, 4, "ftypavis"sv, DecodeAvif},
    {"AVIF", {}, 4, "ftypmif1"sv, DecodeAvif},
    {"AVIF", {}, 4, "ftypmsf1"sv, DecodeAvif},
    {"PPM", "P1"sv, 0, {}, DecodePpm},
    {"PPM", "P2"sv, 0, {}, DecodePpm},
    {"PPM", "P3"sv, 0, {}, DecodePpm},
    {"PPM", "P4"sv, 0, {}, DecodePpm},
    {"PPM", "P5"sv, 0, {}, DecodePpm},
    {"PPM", "P6"sv, 0, {}, DecodePpm},
};

bool HasAt(Bytes file, size_t offset, std::string_view magic) {
  return file.size() >= offset + magic.size() &&
         std::equal(magic.begin(), magic.end(), file.begin() + static_cast<std::ptrdiff_t>(offset),
                    [](char a, uint8_t b) { return static_cast<uint8_t>(a) == b; });
}

Reader FindReader(Bytes file) {
  for (const Format& format : kFormats) {
    if (HasAt(file, 0, format.magic) && HasAt(file, format.more_at, format.more)) {
      return format.reader;
    }
  }
  return nullptr;
}

Status UnknownFormat() {
  std::vector<std::string_view> names;
  for (const Format& format : kFormats) {
    if (names.empty() || names.back() != format.name) names.push_back(format.name);
  }
  std::string text = "the image is in no known format: send ";
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) text += i + 1 < names.size() ? ", " : " or ";
    text += names[i];
  }
  return Status::InvalidInput(text);
}

// Alpha over opaque white, rounded to nearest: equal to Pillow's alpha_composite for all inputs.
void CompositeOverWhite(const uint8_t* in, size_t count, uint8_t* out) {
  for (size_t i = 0; i < count; ++i, in += 4, out += 3) {
    const int alpha = in[3];
    for (int c = 0; c < 3; ++c) {
      out[c] = static_cast<uint8_t>((2 * (in[c] * alpha + 255 * (255 - alpha)) + 255) / 510);
    }
  }
}

void DropAlpha(const uint8_t* in, size_t count, uint8_t* out) {
  for (size_t i = 0; i < count; ++i, in += 4, out += 3) std::memmove(out, in, 3);
}

// In place: the third byte of a pixel is written after its fourth was read.
RgbImage Flatten(Raster raster, ImagePolicy policy, const DecodeBudget& budget) {
  const size_t width = static_cast<size_t>(raster.width);
  const size_t height = static_cast<size_t>(raster.height);
  if (raster.channels == 4) {
    uint8_t* pixels = raster.pixels.data();
    for (size_t y = 0; y < height && !budget.Interrupted(); ++y) {
      const auto flatten = policy == ImagePolicy::kAlphaOverWhite ? CompositeOverWhite : DropAlpha;
      flatten(pixels + y * width * 4, width, pixels + y * width * 3);
    }
    raster.pixels.resize(width * height * 3);
  }
  return {raster.width, raster.height, std::move(raster.pixels)};
}

Result<DecodedImage> Decode(Bytes bytes, ImagePolicy policy, const DecodeBudget& budget) {
  const Reader reader = FindReader(bytes);
  if (reader == nullptr) return UnknownFormat();
  Result<Raster> raster = reader(bytes, budget);
  // A reader that was interrupted says whatever its library says.
  RETURN_IF_ERROR(budget.Check());
  if (!raster.ok()) return raster.status();
  DecodedImage image;
  image.format = raster->format;
  const bool orients = policy == ImagePolicy::kUprightAlphaDropped || raster->orients_itself;
  const int orientation = orients ? raster->orientation : 1;
  image.rgb = Flatten(std::move(raster).value(), policy, budget);
  image.rgb = ApplyOrientation(std::move(image.rgb), orientation, budget);
  RETURN_IF_ERROR(budget.Check());
  return image;
}

}  // namespace

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

Result<DecodedImage> DecodeWithin(std::span<const uint8_t> bytes, ImagePolicy policy,
                                  const DecodeBudget& budget) {
  if (bytes.empty()) {
    return Status::InvalidInput("the image is empty (0 bytes): send the bytes of an image file");
  }
  const int64_t max_bytes = budget.limits().max_bytes;
  if (static_cast<int64_t>(bytes.size()) > max_bytes) {
    return Status::TooLarge("the image file is " + std::to_string(bytes.size()) +
                            " bytes, the limit is " + std::to_string(max_bytes) +
                            " (--max-image-bytes): send a smaller file");
  }
  try {
    return Decode(bytes, policy, budget);
  } catch (const std::bad_alloc&) {
    return Status::TooLarge("there is no memory for the pixels of the image: send a smaller one");
  }
}

Result<DecodedImage> DecodeImage(std::span<const uint8_t> bytes, ImagePolicy policy,
                                 const ImageLimits& limits, const DecodeControl& control) {
  return DecodeWithin(bytes, policy, DecodeBudget(limits, control));
}

}  // namespace idefics
