// SPDX-License-Identifier: Apache-2.0
#include "predictor/images/exif.h"

#include <algorithm>
#include <cstddef>

namespace idefics {
namespace {

constexpr uint32_t kOrientationTag = 274;
constexpr size_t kEntryBytes = 12;  // tag 2, type 2, count 4, value or offset 4

// Unsigned little- or big-endian numbers out of a TIFF block; 0 beyond its end.
class TiffNumbers {
 public:
  TiffNumbers(std::span<const uint8_t> block, bool big_endian)
      : block_(block), big_endian_(big_endian) {}

  uint32_t Read(size_t offset, size_t num_bytes) const {
    if (offset > block_.size() || num_bytes > block_.size() - offset) return 0;
    uint32_t value = 0;
    for (size_t i = 0; i < num_bytes; ++i) {
      value = value << 8 | block_[offset + (big_endian_ ? i : num_bytes - 1 - i)];
    }
    return value;
  }

 private:
  std::span<const uint8_t> block_;
  bool big_endian_;
};

// Bytes of one value of a TIFF type that holds whole numbers; 0 for the other types. BYTE (1) is
// left out: Pillow reads it as a byte string, which never equals a number.
size_t IntegerBytes(uint32_t type) {
  switch (type) {
    case 6:
      return 1;
    case 3:
    case 8:
      return 2;
    case 4:
    case 9:
    case 13:
      return 4;
    default:
      return 0;
  }
}

}  // namespace

uint32_t FirstDirectoryNumber(std::span<const uint8_t> block, uint32_t tag) {
  if (block.size() < 8 || block[0] != block[1] || (block[0] != 'I' && block[0] != 'M')) return 0;
  const TiffNumbers numbers(block, block[0] == 'M');
  const size_t directory = numbers.Read(4, 4);
  const size_t count = numbers.Read(directory, 2);
  uint32_t value = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t entry = directory + 2 + i * kEntryBytes;
    if (entry + kEntryBytes > block.size()) break;
    const size_t value_bytes = IntegerBytes(numbers.Read(entry + 2, 2));
    const size_t num_values = numbers.Read(entry + 4, 4);
    if (numbers.Read(entry, 2) != tag || value_bytes == 0 || num_values == 0) continue;
    const size_t at = value_bytes * num_values <= 4 ? entry + 8 : numbers.Read(entry + 8, 4);
    value = numbers.Read(at, value_bytes);
  }
  return value;
}

int OrientationFromExif(std::span<const uint8_t> block) {
  constexpr std::string_view kPrefix("Exif\0\0", 6);
  while (block.size() >= kPrefix.size() &&
         std::equal(kPrefix.begin(), kPrefix.end(), block.begin())) {
    block = block.subspan(kPrefix.size());
  }
  const uint32_t value = FirstDirectoryNumber(block, kOrientationTag);
  return value <= 8 ? static_cast<int>(value) : 9;  // 9: present, but no orientation
}

int OrientationFromXmp(std::string_view packet) {
  constexpr std::string_view kName = "tiff:Orientation";
  for (size_t at = packet.find(kName); at != packet.npos; at = packet.find(kName, at + 1)) {
    std::string_view rest = packet.substr(at + kName.size());
    const size_t skip = rest.starts_with("=\"") ? 2 : rest.starts_with(">") ? 1 : 0;
    if (skip == 0 || rest.size() <= skip) continue;
    if (rest[skip] >= '0' && rest[skip] <= '9') return rest[skip] - '0';
  }
  return 0;
}

int CombinedOrientation(std::span<const uint8_t> exif, std::string_view xmp) {
  int orientation = OrientationFromExif(exif);
  if (orientation == 0) orientation = OrientationFromXmp(xmp);
  return orientation >= 1 && orientation <= 8 ? orientation : 1;
}

}  // namespace idefics
