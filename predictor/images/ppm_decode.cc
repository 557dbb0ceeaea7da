// SPDX-License-Identifier: Apache-2.0
// PBM, PGM and PPM (P1 to P6), read as Pillow's PpmImagePlugin reads them: samples are scaled from
// the file's maximum (OpenCV 4.6 does not), greys above 255 are clipped as its mode "I" is.
#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>

#include "predictor/images/raster.h"

namespace idefics {
namespace {

constexpr size_t kMaxTokenBytes = 10;

bool IsSpace(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

struct PpmHeader {
  int kind = 0;  // the digit after P
  int64_t width = 0;
  int64_t height = 0;
  int max_value = 1;
};

class PpmReader {
 public:
  PpmReader(Bytes file, const DecodeBudget& budget) : file_(file), budget_(budget) {}

  Result<Raster> Read() {
    RETURN_IF_ERROR(ReadHeader());
    RETURN_IF_ERROR(budget_.CheckSize(header_.width, header_.height));
    RETURN_IF_ERROR(CheckLength());
    RETURN_IF_ERROR(budget_.Admit({header_.width, header_.height, 3}));
    Raster raster = MakeRaster("PPM", header_.width, header_.height, 3);
    const bool complete = header_.kind <= 3   ? ReadPlain(&raster)
                          : header_.kind == 4 ? ReadPackedBits(&raster)
                                              : ReadBinary(&raster);
    if (complete) return raster;
    return at_ < file_.size() ? Unreadable("PPM", "a sample is no number from 0 to " +
                                                      std::to_string(header_.max_value))
                              : Truncated("PPM");
  }

 private:
  bool is_color() const { return header_.kind % 3 == 0; }
  bool is_bits() const { return header_.kind % 3 == 1; }
  size_t num_pixels() const { return static_cast<size_t>(header_.width * header_.height); }
  size_t num_samples() const { return num_pixels() * (is_color() ? 3 : 1); }

  std::optional<int64_t> HeaderNumber() {
    std::string token;
    while (token.size() <= kMaxTokenBytes && at_ < file_.size()) {
      const uint8_t c = file_[at_++];
      if (c == '#') {
        while (at_ < file_.size() && file_[at_] != '\r' && file_[at_] != '\n') ++at_;
        ++at_;
      } else if (!IsSpace(c)) {
        token.push_back(static_cast<char>(c));
      } else if (!token.empty()) {
        break;
      }
    }
    return Number(token);
  }

  static std::optional<int64_t> Number(std::string_view token) {
    if (token.empty() || token.size() > kMaxTokenBytes) return std::nullopt;
    int64_t value = 0;
    for (const char c : token) {
      if (c < '0' || c > '9') return std::nullopt;
      value = value * 10 + (c - '0');
    }
    return value;
  }

  Status ReadHeader() {
    header_.kind = file_[1] - '0';
    at_ = 2;
    if (file_.size() > 2 && !IsSpace(file_[2])) return Unreadable("PPM", "its magic is unknown");
    ++at_;
    const auto width = HeaderNumber();
    const auto height = HeaderNumber();
    if (!width || !height) return Unreadable("PPM", "its size is no number");
    header_.width = *width;
    header_.height = *height;
    if (is_bits()) return Status::Ok();
    const auto max_value = HeaderNumber();
    if (!max_value || *max_value < 1 || *max_value > 65535) {
      return Unreadable("PPM", "its largest value is not within 1 to 65535");
    }
    header_.max_value = static_cast<int>(*max_value);
    return Status::Ok();
  }

  // Refuses a file that is too short for its header before the pixels are allocated.
  Status CheckLength() const {
    const size_t left = file_.size() - std::min(at_, file_.size());
    size_t needed = num_samples();  // plain: a digit each
    if (header_.kind == 4) {
      needed = static_cast<size_t>((header_.width + 7) / 8 * header_.height);
    } else if (header_.kind > 4 && header_.max_value > 255) {
      needed *= 2;
    }
    return left < needed ? Truncated("PPM") : Status::Ok();
  }

  // A sample of the file as 8 bits. Wide grey becomes Pillow's mode "I" (0..65535), clipped.
  uint8_t Scale(int64_t value) const {
    const bool wide_grey = !is_color() && header_.max_value > 255;
    const double scaled =
        std::nearbyint(static_cast<double>(value) / header_.max_value * (wide_grey ? 65535 : 255));
    return static_cast<uint8_t>(std::min(scaled, 255.0));
  }

  void Store(size_t sample, uint8_t value, Raster* raster) const {
    if (is_color()) {
      raster->pixels[sample] = value;
    } else {
      std::fill_n(raster->pixels.begin() + static_cast<std::ptrdiff_t>(3 * sample), 3, value);
    }
  }

  // Calls visit(i) for each of count samples (or pixels), until one says false; true: all are done,
  // or the budget is interrupted.
  template <typename Visitor>
  bool ForEach(size_t count, Visitor visit) const {
    constexpr size_t kAtOnce = 4096;  // between two looks at the budget
    for (size_t begin = 0; begin < count && !budget_.Interrupted(); begin += kAtOnce) {
      const size_t end = std::min(begin + kAtOnce, count);
      for (size_t i = begin; i < end; ++i) {
        if (!visit(i)) return false;
      }
    }
    return true;
  }

  bool ReadPackedBits(Raster* raster) {
    const size_t width = static_cast<size_t>(header_.width);
    const size_t stride = (width + 7) / 8;
    return ForEach(num_pixels(), [&](size_t i) {
      const size_t x = i % width;
      const int bit = file_[at_ + i / width * stride + x / 8] >> (7 - x % 8) & 1;
      Store(i, bit != 0 ? 0 : 255, raster);
      return true;
    });
  }

  bool ReadBinary(Raster* raster) {
    const bool wide = header_.max_value > 255;
    const uint8_t* in = file_.data() + at_;
    return ForEach(num_samples(), [&](size_t i) {
      Store(i, Scale(wide ? ReadU16Be(in + 2 * i) : in[i]), raster);
      return true;
    });
  }

  bool ReadPlain(Raster* raster) {
    return ForEach(num_samples(), [&](size_t i) {
      const auto value = is_bits() ? PlainBit() : PlainNumber();
      if (!value || *value > header_.max_value) return false;
      Store(i, is_bits() ? (*value != 0 ? 0 : 255) : Scale(*value), raster);
      return true;
    });
  }

  void SkipSpaceAndComments() {
    while (at_ < file_.size() && (IsSpace(file_[at_]) || file_[at_] == '#')) {
      if (file_[at_] == '#') {
        while (at_ < file_.size() && file_[at_] != '\r' && file_[at_] != '\n') ++at_;
      } else {
        ++at_;
      }
    }
  }

  std::optional<int64_t> PlainBit() {
    SkipSpaceAndComments();
    if (at_ >= file_.size() || (file_[at_] != '0' && file_[at_] != '1')) return std::nullopt;
    return file_[at_++] - '0';
  }

  std::optional<int64_t> PlainNumber() {
    SkipSpaceAndComments();
    const size_t begin = at_;
    size_t end = begin;
    while (end < file_.size() && !IsSpace(file_[end]) && file_[end] != '#') ++end;
    const auto number = Number({reinterpret_cast<const char*>(file_.data()) + begin, end - begin});
    if (number) at_ = end;
    return number;
  }

  Bytes file_;
  const DecodeBudget& budget_;
  size_t at_ = 0;
  PpmHeader header_;
};

}  // namespace

Result<Raster> DecodePpm(Bytes file, const DecodeBudget& budget) {
  return PpmReader(file, budget).Read();
}

}  // namespace idefics
