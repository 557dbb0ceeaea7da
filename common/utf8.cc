// SPDX-License-Identifier: Apache-2.0
#include "common/utf8.h"

#include <cstring>

namespace idefics {

Utf8Character DecodeUtf8(std::string_view bytes) {
  if (bytes.empty()) return {};
  const auto lead = static_cast<uint8_t>(bytes[0]);
  if (lead < 0x80) return {lead, 1};
  const int num_bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || bytes.size() < static_cast<size_t>(num_bytes)) return {};
  char32_t code_point = lead & (0xFFU >> (num_bytes + 1));
  for (int i = 1; i < num_bytes; ++i) {
    const auto next = static_cast<uint8_t>(bytes[i]);
    if ((next & 0xC0) != 0x80) return {};
    code_point = code_point << 6 | (next & 0x3FU);
  }
  const bool overlong =
      (num_bytes == 3 && code_point < 0x800) || (num_bytes == 4 && code_point < 0x10000);
  const bool surrogate = code_point >= 0xD800 && code_point <= 0xDFFF;
  if (overlong || surrogate || code_point > 0x10FFFF) return {};
  return {code_point, num_bytes};
}

// Most texts are, which eight bytes at a time show.
static bool IsAscii(std::string_view bytes) {
  constexpr uint64_t kHigh = 0x8080808080808080U;
  uint64_t word = 0;
  if (bytes.size() < sizeof word) {
    for (const char c : bytes) word |= static_cast<uint8_t>(c);
    return word < 0x80;
  }
  const char* const last = bytes.data() + bytes.size() - sizeof word;
  for (const char* at = bytes.data(); at < last; at += sizeof word) {
    std::memcpy(&word, at, sizeof word);
    if ((word & kHigh) != 0) return false;
  }
  std::memcpy(&word, last, sizeof word);
  return (word & kHigh) == 0;
}

bool IsValidUtf8(std::string_view bytes) {
  if (IsAscii(bytes)) return true;
  while (!bytes.empty()) {
    const bool ascii = static_cast<uint8_t>(bytes[0]) < 0x80;
    const int num_bytes = ascii ? 1 : DecodeUtf8(bytes).num_bytes;
    if (num_bytes == 0) return false;
    bytes.remove_prefix(num_bytes);
  }
  return true;
}

std::string_view Utf8Prefix(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  size_t end = max_bytes;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

std::string Abbreviate(std::string_view text, size_t max_bytes) {
  const std::string_view kept = Utf8Prefix(text, max_bytes);
  return std::string(kept) + (kept.size() < text.size() ? "…" : "");
}

}  // namespace idefics
