// SPDX-License-Identifier: Apache-2.0
#include "predictor/images/tiff_samples.h"

#include <tiff.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace idefics {
namespace {

constexpr int kMaxSamples = 6;
constexpr uint16_t kCorelDrawAlpha = 999;  // an ExtraSamples value that Corel Draw 10 writes

int NumColorSamples(const TiffLayout& layout) {
  switch (layout.photometric) {
    case PHOTOMETRIC_RGB:
      return 3;
    case PHOTOMETRIC_SEPARATED:
      return 4;
    default:
      return 1;
  }
}

bool IsGrey(const TiffLayout& layout) {
  return layout.photometric == PHOTOMETRIC_MINISWHITE ||
         layout.photometric == PHOTOMETRIC_MINISBLACK || layout.photometric == PHOTOMETRIC_YCBCR;
}

bool IsPremultiplied(const TiffLayout& layout) {
  return layout.photometric == PHOTOMETRIC_RGB && layout.num_extra > 0 &&
         layout.first_extra == EXTRASAMPLE_ASSOCALPHA;
}

bool HasAlpha(const TiffLayout& layout) {
  if (layout.num_samples <= NumColorSamples(layout) ||
      layout.photometric == PHOTOMETRIC_SEPARATED) {
    return false;
  }
  if (layout.num_extra == 0) return layout.photometric == PHOTOMETRIC_RGB;  // ExtraSamples missing
  return IsPremultiplied(layout) || layout.first_extra == EXTRASAMPLE_UNASSALPHA ||
         layout.first_extra == kCorelDrawAlpha;
}

bool GreyBitsAreKnown(const TiffLayout& layout) {
  if (layout.num_samples > 1) return layout.bits == 8;
  switch (layout.bits) {
    case 1:
    case 2:
    case 4:
      return layout.sample_format == SAMPLEFORMAT_UINT;
    case 8:
    case 16:
      return layout.sample_format <= SAMPLEFORMAT_INT;
    case 12:
      return layout.photometric == PHOTOMETRIC_MINISBLACK;
    case 32:
      return layout.sample_format <= SAMPLEFORMAT_IEEEFP;
    default:
      return false;
  }
}

template <typename T>
T Load(const uint8_t* in) {
  T value;
  std::memcpy(&value, in, sizeof(T));
  return value;
}

template <typename T>
uint8_t Clip(T value) {  // not a number becomes 0
  if (!(value > T{0})) return 0;
  return value >= T{255} ? uint8_t{255} : static_cast<uint8_t>(value);
}

int BitsAt(const uint8_t* in, size_t index, int bits) {
  const size_t bit = index * static_cast<size_t>(bits);
  return in[bit / 8] >> (8 - bits - static_cast<int>(bit % 8)) & ((1 << bits) - 1);
}

// Grey of the pixel; beyond 8 bits Pillow clips instead of scaling.
uint8_t Grey(const TiffLayout& layout, const uint8_t* in, size_t index) {
  const bool inverted = layout.photometric == PHOTOMETRIC_MINISWHITE;
  const bool is_signed = layout.sample_format == SAMPLEFORMAT_INT;
  switch (layout.bits) {
    case 8: {
      const uint8_t value = in[index * layout.num_samples];
      return inverted ? static_cast<uint8_t>(255 - value) : value;
    }
    case 12: {
      const uint8_t* pair = in + index / 2 * 3;
      const int value =
          index % 2 == 0 ? pair[0] << 4 | pair[1] >> 4 : (pair[1] & 15) << 8 | pair[2];
      return Clip(value);
    }
    case 16:
      return is_signed ? Clip(int{Load<int16_t>(in + 2 * index)})
                       : Clip(int{Load<uint16_t>(in + 2 * index)});
    case 32:
      return layout.sample_format == SAMPLEFORMAT_IEEEFP ? Clip(Load<float>(in + 4 * index))
                                                         : Clip(Load<int32_t>(in + 4 * index));
    default: {
      const int max = (1 << layout.bits) - 1;
      const int value = BitsAt(in, index, layout.bits) * (255 / max);
      return static_cast<uint8_t>(inverted ? 255 - value : value);
    }
  }
}

// The pixel's samples as 8 bits: the high byte of 16.
void LoadSamples(const TiffLayout& layout, const uint8_t* in, size_t index, uint8_t* samples) {
  const size_t count = std::min<size_t>(layout.num_samples, kMaxSamples);
  for (size_t i = 0; i < count; ++i) {
    const size_t at = index * layout.num_samples + i;
    samples[i] =
        layout.bits == 16 ? static_cast<uint8_t>(Load<uint16_t>(in + 2 * at) >> 8) : in[at];
  }
}

void Unpremultiply(uint8_t* rgba) {
  const int alpha = rgba[3];
  if (alpha == 255) return;
  for (int c = 0; c < 3; ++c) {
    rgba[c] = alpha == 0 ? uint8_t{0} : static_cast<uint8_t>(std::min(255 * rgba[c] / alpha, 255));
  }
}

}  // namespace

Status CheckLayout(const TiffLayout& layout) {
  const int num_colors = NumColorSamples(layout);
  const bool is_byte_or_word =
      (layout.bits == 8 || layout.bits == 16) && layout.sample_format == SAMPLEFORMAT_UINT;
  bool known =
      layout.num_samples >= num_colors + layout.num_extra && layout.num_samples <= kMaxSamples;
  if (IsGrey(layout)) {
    known = known && layout.num_samples <= 2 && GreyBitsAreKnown(layout);
  } else if (layout.photometric == PHOTOMETRIC_PALETTE) {
    const bool whole_byte = layout.bits == 8;
    known = known && layout.num_samples <= 2 && layout.sample_format == SAMPLEFORMAT_UINT &&
            (whole_byte || (layout.num_samples == 1 && layout.bits <= 4 && layout.bits != 3));
  } else if (layout.photometric == PHOTOMETRIC_RGB) {
    known = known && is_byte_or_word;
  } else {
    known = known && layout.photometric == PHOTOMETRIC_SEPARATED && is_byte_or_word;
  }
  if (layout.separate_planes) known = known && layout.photometric == PHOTOMETRIC_RGB;
  if (known && layout.bits > 0) return Status::Ok();
  return Status::InvalidInput("the TIFF image has a layout that is not supported (photometric " +
                              std::to_string(layout.photometric) + ", " +
                              std::to_string(layout.num_samples) + " samples of " +
                              std::to_string(layout.bits) + " bits): save it as 8-bit RGB");
}

int ChannelsOf(const TiffLayout& layout) { return HasAlpha(layout) ? 4 : 3; }

void StorePixels(const TiffLayout& layout, const uint8_t* in, size_t count, uint8_t* out) {
  const size_t channels = static_cast<size_t>(ChannelsOf(layout));
  for (size_t i = 0; i < count; ++i, out += channels) {
    if (IsGrey(layout)) {
      std::fill_n(out, 3, Grey(layout, in, i));
      if (channels == 4) out[3] = in[2 * i + 1];
      continue;
    }
    if (layout.photometric == PHOTOMETRIC_PALETTE) {
      const int index = layout.bits == 8 ? in[i * layout.num_samples] : BitsAt(in, i, layout.bits);
      std::copy_n(layout.palette.rgba[index], 3, out);
      if (channels == 4) out[3] = in[2 * i + 1];
      continue;
    }
    uint8_t samples[kMaxSamples];
    LoadSamples(layout, in, i, samples);
    if (layout.photometric == PHOTOMETRIC_SEPARATED) {
      CmykToRgb(samples, out);
      continue;
    }
    std::copy_n(samples, channels, out);
    if (IsPremultiplied(layout)) Unpremultiply(out);
  }
}

void StorePlane(const TiffLayout& layout, int plane, const uint8_t* in, size_t count,
                uint8_t* out) {
  const int channels = ChannelsOf(layout);
  if (plane >= channels) return;
  TiffLayout single = layout;
  single.num_samples = 1;
  for (size_t i = 0; i < count; ++i, out += channels) LoadSamples(single, in, i, out + plane);
}

void FinishPixels(const TiffLayout& layout, Raster* raster) {
  if (!layout.separate_planes || !IsPremultiplied(layout) || raster->channels != 4) return;
  for (size_t i = 0; i < raster->pixels.size(); i += 4) Unpremultiply(&raster->pixels[i]);
}

}  // namespace idefics
