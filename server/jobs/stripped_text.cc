// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/stripped_text.h"

#include <algorithm>

#include "common/utf8.h"

namespace idefics {
namespace {

// str.isspace() of Python 3.11.
bool IsPythonSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
         c == 0x205f || c == 0x3000;
}

struct TextBounds {
  size_t begin = 0;
  size_t end = 0;  // begin == end: nothing but white space
};

TextBounds FindText(std::string_view text) {
  TextBounds bounds{text.size(), text.size()};
  for (size_t i = 0; i < text.size();) {
    const Utf8Character c = DecodeUtf8(text.substr(i));
    const size_t size = static_cast<size_t>(std::max(c.num_bytes, 1));
    if (c.num_bytes == 0 || !IsPythonSpace(c.code_point)) {
      bounds.begin = std::min(bounds.begin, i);
      bounds.end = i + size;
    }
    i += size;
  }
  return bounds;
}

}  // namespace

void StrippedText::Add(std::string_view piece) {
  const TextBounds bounds = FindText(piece);
  if (bounds.begin == bounds.end) {
    if (started_) held_ += piece;
    return;
  }
  std::string out = started_ ? held_ + std::string(piece.substr(0, bounds.begin)) : std::string();
  out += piece.substr(bounds.begin, bounds.end - bounds.begin);
  held_ = piece.substr(bounds.end);
  started_ = true;
  emit_(out);
}

}  // namespace idefics
