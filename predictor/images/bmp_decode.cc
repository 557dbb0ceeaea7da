// SPDX-License-Identifier: Apache-2.0
// BMP, read as Pillow's BmpImagePlugin reads it (OpenCV 4.6 scales 15- and 16-bit colours
// otherwise, ignores the masks' order and forgives cut-off files).
#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "predictor/images/raster.h"

namespace idefics {
namespace {

enum Compression : uint32_t { kRaw = 0, kRle8 = 1, kRle4 = 2, kBitfields = 3 };

// Where red, green, blue and alpha lie in a 32-bit pixel; -1: no alpha.
struct ByteOrder {
  std::array<uint32_t, 4> masks;
  std::array<int, 4> bytes;
};

constexpr ByteOrder kByteOrders[] = {
    {{0xff0000, 0xff00, 0xff, 0}, {2, 1, 0, -1}},
    {{0xff000000, 0xff0000, 0xff00, 0}, {3, 2, 1, -1}},
    {{0xff000000, 0xff00, 0xff, 0}, {3, 1, 0, -1}},
    {{0xff000000, 0xff0000, 0xff00, 0xff}, {3, 2, 1, 0}},
    {{0xff, 0xff00, 0xff0000, 0xff000000}, {0, 1, 2, 3}},
    {{0xff0000, 0xff00, 0xff, 0xff000000}, {2, 1, 0, 3}},
    {{0xff000000, 0xff00, 0xff, 0xff0000}, {3, 1, 0, 2}},
    {{0, 0, 0, 0}, {2, 1, 0, 3}},
};

struct BmpHeader {
  int64_t width = 0;
  int64_t height = 0;
  bool top_down = false;
  int bits = 0;  // per pixel
  uint32_t compression = kRaw;
  uint32_t num_colors = 0;
  size_t color_bytes = 4;  // of a palette entry
  size_t palette_at = 0;   // offsets in the file
  size_t pixels_at = 0;
  std::array<uint32_t, 4> masks = {};  // red, green, blue, alpha
};

Status ReadMasks(Bytes file, size_t header_bytes, BmpHeader* header) {
  if (header->compression != kBitfields) return Status::Ok();
  const size_t num_masks = header_bytes >= 56 ? 4 : 3;  // a 40-byte header is followed by three
  if (file.size() < 54 + 4 * num_masks) return Truncated("BMP");
  for (size_t i = 0; i < num_masks; ++i) header->masks[i] = ReadU32Le(&file[54 + 4 * i]);
  if (header_bytes < 52) header->palette_at += 12;
  return Status::Ok();
}

Result<BmpHeader> ReadHeader(Bytes file) {
  if (file.size() < 18) return Truncated("BMP");
  BmpHeader header;
  header.pixels_at = ReadU32Le(&file[10]);
  const size_t header_bytes = ReadU32Le(&file[14]);
  constexpr size_t kKnownHeaders[] = {12, 40, 52, 56, 64, 108, 124};
  if (std::find(std::begin(kKnownHeaders), std::end(kKnownHeaders), header_bytes) ==
      std::end(kKnownHeaders)) {
    return Unreadable("BMP", "unknown header of " + std::to_string(header_bytes) + " bytes");
  }
  if (file.size() < 14 + header_bytes) return Truncated("BMP");
  header.palette_at = 14 + header_bytes;
  if (header_bytes == 12) {
    header.width = ReadU16Le(&file[18]);
    header.height = ReadU16Le(&file[20]);
    header.bits = ReadU16Le(&file[24]);
    header.color_bytes = 3;
  } else {
    header.top_down = file[25] == 0xff;
    header.width = ReadU32Le(&file[18]);
    header.height = ReadU32Le(&file[22]);
    if (header.top_down) header.height = (int64_t{1} << 32) - header.height;
    header.bits = ReadU16Le(&file[28]);
    header.compression = ReadU32Le(&file[30]);
    header.num_colors = ReadU32Le(&file[46]);
    RETURN_IF_ERROR(ReadMasks(file, header_bytes, &header));
  }
  constexpr int kKnownBits[] = {1, 4, 8, 16, 24, 32};
  if (std::find(std::begin(kKnownBits), std::end(kKnownBits), header.bits) ==
      std::end(kKnownBits)) {
    return Unreadable("BMP", std::to_string(header.bits) + " bits a pixel");
  }
  if (header.compression > kBitfields) {
    return Unreadable("BMP", "unknown compression " + std::to_string(header.compression));
  }
  if (header.num_colors == 0 && header.bits <= 8) header.num_colors = 1U << header.bits;
  if (header.pixels_at == 14 + header_bytes && header.bits <= 8) {
    header.pixels_at += header.color_bytes * header.num_colors;
  }
  if (header.pixels_at == 0) {
    header.pixels_at = header.palette_at;
    if (header.bits <= 8) header.pixels_at += header.color_bytes * header.num_colors;
  }
  return header;
}

Palette ReadPalette(Bytes file, const BmpHeader& header) {
  Palette palette;
  for (size_t i = 0; i < std::min<size_t>(header.num_colors, 256); ++i) {
    const size_t at = header.palette_at + i * header.color_bytes;
    if (at + header.color_bytes > file.size()) break;
    for (size_t c = 0; c < 3; ++c) palette.rgba[i][c] = file[at + 2 - c];
  }
  return palette;
}

// Run-length coded rows as [height, width] palette indices in file order. Pillow's decoder pads
// rows with index 0, reads absolute runs without regard for the row end, and refuses a short
// image.
class RleReader {
 public:
  RleReader(Bytes file, const BmpHeader& header, const DecodeBudget& budget)
      : file_(file),
        budget_(budget),
        at_(header.pixels_at),
        width_(static_cast<size_t>(header.width)),
        total_(width_ * static_cast<size_t>(header.height)),
        nibbles_(header.compression == kRle4) {}

  // False: the data ends too early, or the budget is interrupted.
  bool Read(std::vector<uint8_t>* indices) {
    out_.reserve(total_ + 512);
    for (size_t i = 0; out_.size() < total_; ++i) {
      if (i % 1024 == 0 && budget_.Interrupted()) return false;
      if (!ReadCommand()) break;
    }
    if (out_.size() < total_) return false;
    out_.resize(total_);
    *indices = std::move(out_);
    return true;
  }

 private:
  std::optional<uint8_t> Next() {
    if (at_ >= file_.size()) return std::nullopt;
    return file_[at_++];
  }

  // False: end of the bitmap or of the file.
  bool ReadCommand() {
    const auto count = Next();
    const auto value = Next();
    if (!count || !value) return false;
    if (*count > 0) {
      AppendRun(*count, *value);
      return true;
    }
    switch (*value) {
      case 0:
        Append((width_ - out_.size() % width_) % width_, 0);
        x_ = 0;
        return true;
      case 1:
        return false;
      case 2:
        return ReadDelta();
      default:
        return ReadAbsolute(*value);
    }
  }

  // At most what the image still holds, so that a few bytes cannot ask for gigabytes.
  void Append(size_t count, uint8_t value) {
    const size_t room = total_ + 255 - std::min(total_ + 255, out_.size());
    out_.insert(out_.end(), std::min(count, room), value);
  }

  void AppendRun(size_t count, uint8_t value) {
    count = std::min(count, width_ - std::min(width_, x_));
    for (size_t i = 0; i < count; ++i) {
      out_.push_back(!nibbles_    ? value
                     : i % 2 == 0 ? static_cast<uint8_t>(value >> 4)
                                  : static_cast<uint8_t>(value & 15));
    }
    x_ += count;
  }

  bool ReadDelta() {
    const auto right = Next();
    const auto up = Next();
    if (!right || !up) return false;
    Append(*right + *up * width_, 0);
    x_ = out_.size() % width_;
    return true;
  }

  bool ReadAbsolute(size_t count) {
    const size_t num_bytes = nibbles_ ? count / 2 : count;
    for (size_t i = 0; i < num_bytes; ++i) {
      const auto byte = Next();
      if (!byte) return false;
      if (nibbles_) {
        out_.push_back(static_cast<uint8_t>(*byte >> 4));
        out_.push_back(static_cast<uint8_t>(*byte & 15));
      } else {
        out_.push_back(*byte);
      }
    }
    x_ += count;
    at_ += at_ % 2;
    return true;
  }

  Bytes file_;
  const DecodeBudget& budget_;
  size_t at_;
  size_t x_ = 0;
  size_t width_;
  size_t total_;
  bool nibbles_;
  std::vector<uint8_t> out_;
};

size_t OutputRow(const BmpHeader& header, size_t y) {
  return header.top_down ? y : static_cast<size_t>(header.height) - 1 - y;
}

Result<Raster> ReadRle(Bytes file, const BmpHeader& header, const DecodeBudget& budget) {
  std::vector<uint8_t> indices;
  if (header.bits > 8) return Unreadable("BMP", "run lengths need a palette");
  RETURN_IF_ERROR(budget.Admit({header.width, header.height, 4}));  // an index and a colour
  if (!RleReader(file, header, budget).Read(&indices)) return Truncated("BMP");
  const Palette palette = ReadPalette(file, header);
  Raster raster = MakeRaster("BMP", header.width, header.height, 3);
  const size_t width = static_cast<size_t>(header.width);
  for (size_t y = 0; y < static_cast<size_t>(header.height) && !budget.Interrupted(); ++y) {
    uint8_t* out = raster.pixels.data() + OutputRow(header, y) * width * 3;
    for (size_t x = 0; x < width; ++x) {
      out = std::copy_n(palette.rgba[indices[y * width + x]], 3, out);
    }
  }
  return raster;
}

// How the bytes of one row become colours.
struct RowFormat {
  int bits = 0;
  bool green6 = false;  // 16 bits: 5-6-5 rather than 5-5-5
  std::array<int, 4> bytes = {2, 1, 0, -1};
  Palette palette;
};

void ConvertRow(const RowFormat& format, const uint8_t* in, size_t width, int channels,
                uint8_t* out) {
  for (size_t x = 0; x < width; ++x, out += channels) {
    if (format.bits <= 8) {
      const size_t bit = x * static_cast<size_t>(format.bits);
      const int shift = 8 - format.bits - static_cast<int>(bit % 8);
      const int index = in[bit / 8] >> shift & ((1 << format.bits) - 1);
      std::copy_n(format.palette.rgba[index], channels, out);
    } else if (format.bits == 16) {
      const int pixel = ReadU16Le(in + 2 * x);
      const int green_bits = format.green6 ? 6 : 5;
      const int green_max = (1 << green_bits) - 1;
      out[0] = static_cast<uint8_t>((pixel >> (5 + green_bits) & 31) * 255 / 31);
      out[1] = static_cast<uint8_t>((pixel >> 5 & green_max) * 255 / green_max);
      out[2] = static_cast<uint8_t>((pixel & 31) * 255 / 31);
    } else {
      const uint8_t* pixel = in + x * static_cast<size_t>(format.bits / 8);
      for (int c = 0; c < channels; ++c) out[c] = pixel[format.bytes[static_cast<size_t>(c)]];
    }
  }
}

Result<RowFormat> ChooseFormat(Bytes file, const BmpHeader& header) {
  RowFormat format;
  format.bits = header.bits;
  if (header.bits <= 8) format.palette = ReadPalette(file, header);
  if (header.compression != kBitfields) return format;
  const std::array<uint32_t, 4>& masks = header.masks;
  const auto matches = [&](uint32_t red, uint32_t green, uint32_t blue) {
    return masks[0] == red && masks[1] == green && masks[2] == blue;
  };
  if (header.bits == 32) {
    for (const ByteOrder& order : kByteOrders) {
      if (order.masks != masks) continue;
      format.bytes = order.bytes;
      return format;
    }
  } else if (header.bits == 16 && matches(0xf800, 0x7e0, 0x1f)) {
    format.green6 = true;
    return format;
  } else if (header.bits == 16 && matches(0x7c00, 0x3e0, 0x1f)) {
    return format;
  } else if (header.bits == 24 && matches(0xff0000, 0xff00, 0xff)) {
    return format;
  }
  return Unreadable("BMP", "its colour masks are of an unknown layout");
}

Result<Raster> ReadRaw(Bytes file, const BmpHeader& header, const DecodeBudget& budget) {
  ASSIGN_OR_RETURN(const RowFormat format, ChooseFormat(file, header));
  const size_t width = static_cast<size_t>(header.width);
  const size_t height = static_cast<size_t>(header.height);
  const size_t row_bits = width * static_cast<size_t>(header.bits);
  const size_t stride = (row_bits + 31) / 32 * 4;
  const size_t needed = (height - 1) * stride + (row_bits + 7) / 8;  // no padding after the last
  if (header.pixels_at > file.size() || file.size() - header.pixels_at < needed) {
    return Truncated("BMP");
  }
  const int channels = header.bits == 32 && format.bytes[3] >= 0 ? 4 : 3;
  RETURN_IF_ERROR(budget.Admit({header.width, header.height, channels}));
  Raster raster = MakeRaster("BMP", header.width, header.height, channels);
  for (size_t y = 0; y < height && !budget.Interrupted(); ++y) {
    ConvertRow(format, file.data() + header.pixels_at + y * stride, width, channels,
               raster.pixels.data() + OutputRow(header, y) * width * static_cast<size_t>(channels));
  }
  return raster;
}

}  // namespace

Result<Raster> DecodeBmp(Bytes file, const DecodeBudget& budget) {
  ASSIGN_OR_RETURN(const BmpHeader header, ReadHeader(file));
  RETURN_IF_ERROR(budget.CheckSize(header.width, header.height));
  const bool run_lengths = header.compression == kRle8 || header.compression == kRle4;
  return run_lengths ? ReadRle(file, header, budget) : ReadRaw(file, header, budget);
}

}  // namespace idefics
