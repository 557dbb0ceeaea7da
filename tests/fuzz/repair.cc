// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/repair.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

namespace idefics {
namespace {

uint32_t ReadBig32(const uint8_t* at) {
  return uint32_t{at[0]} << 24 | uint32_t{at[1]} << 16 | uint32_t{at[2]} << 8 | at[3];
}

void Put(std::string_view text, size_t at, uint8_t* data, size_t size) {
  if (size >= at + text.size()) std::copy(text.begin(), text.end(), data + at);
}

}  // namespace

void RepairMagic(std::string_view kind, uint8_t* data, size_t size) {
  using std::string_view_literals::operator""sv;
  if (kind == "jpeg") Put("\xff\xd8\xff", 0, data, size);
  if (kind == "gif") Put("GIF89a", 0, data, size);
  if (kind == "bmp") Put("BM", 0, data, size);
  if (kind == "tiff") Put(size > 0 && data[0] == 'M' ? "MM\0*"sv : "II*\0"sv, 0, data, size);
  if (kind == "avif") Put(size > 11 && data[11] == 's' ? "ftypavis" : "ftypavif", 4, data, size);
  if (kind == "ppm" && size > 2) {
    data[0] = 'P';
    data[1] = static_cast<uint8_t>('1' + data[1] % 6);
  }
}

void RepairPng(uint8_t* data, size_t size) {
  constexpr size_t kSignatureBytes = 8;
  constexpr size_t kAroundBytes = 12;  // length, name and checksum of a chunk
  if (size < kSignatureBytes) return;
  std::memcpy(data, "\x89PNG\r\n\x1a\n", kSignatureBytes);
  for (size_t at = kSignatureBytes; size - at >= kAroundBytes;) {
    const size_t length = ReadBig32(data + at);
    if (length > size - at - kAroundBytes) return;
    const auto checksum = static_cast<uint32_t>(crc32_z(0, data + at + 4, length + 4));
    for (size_t i = 0; i < 4; ++i) {
      data[at + 8 + length + i] = static_cast<uint8_t>(checksum >> (24 - 8 * i));
    }
    at += kAroundBytes + length;
  }
}

void RepairWebp(uint8_t* data, size_t size) {
  constexpr size_t kHeaderBytes = 12;
  if (size < kHeaderBytes) return;
  std::memcpy(data, "RIFF", 4);
  const size_t length = size - 8;
  for (size_t i = 0; i < 4; ++i) data[4 + i] = static_cast<uint8_t>(length >> (8 * i));
  std::memcpy(data + 8, "WEBP", 4);
}

}  // namespace idefics
