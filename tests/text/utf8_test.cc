// SPDX-License-Identifier: Apache-2.0
#include "common/utf8.h"

#include <catch2/catch_test_macros.hpp>
#include <string>

namespace idefics {
namespace {

std::string EncodeUtf8(char32_t c) {
  const auto tail = [c](int shift) { return static_cast<char>(0x80 | (c >> shift & 0x3F)); };
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xC0 | c >> 6), tail(0)};
  if (c < 0x10000) return {static_cast<char>(0xE0 | c >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xF0 | c >> 18), tail(12), tail(6), tail(0)};
}

TEST_CASE("every code point decodes to itself, and surrogates do not", "[utf8]") {
  for (char32_t c = 0; c < 0x110000; ++c) {
    const std::string bytes = EncodeUtf8(c);
    const Utf8Character character = DecodeUtf8(bytes + "x");
    if (c >= 0xD800 && c <= 0xDFFF) {
      if (character.num_bytes != 0) FAIL("surrogate " << static_cast<uint32_t>(c));
    } else if (character.code_point != c || character.num_bytes != static_cast<int>(bytes.size())) {
      FAIL("code point " << static_cast<uint32_t>(c));
    }
  }
}

TEST_CASE("overlong, truncated and too large sequences are not UTF-8", "[utf8]") {
  for (const char* bytes :
       {"\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF", "\x80", "\xC3", "\xE2\x82",
        "\xF0\x9F\x98", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xC3(", "\xED\xA0\x80"}) {
    CAPTURE(bytes);
    CHECK_FALSE(IsValidUtf8(bytes));
    CHECK_FALSE(IsValidUtf8("ok" + std::string(bytes) + "ok"));
  }
  CHECK(IsValidUtf8(""));
  CHECK(IsValidUtf8(std::string_view("a\0é😀", 8)));
}

}  // namespace
}  // namespace idefics
