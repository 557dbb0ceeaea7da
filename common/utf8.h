// SPDX-License-Identifier: Apache-2.0
// Strict UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF. Pure
// functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace idefics {

// Encoding of U+FFFD, what undecodable bytes become.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

struct Utf8Character {
  char32_t code_point = 0;
  int num_bytes = 0;  // 1..4; 0 where the bytes are no valid character (or there are none)
};

// The character that `bytes` starts with.
Utf8Character DecodeUtf8(std::string_view bytes);

bool IsValidUtf8(std::string_view bytes);

// The longest prefix of at most `max_bytes` that cuts no character. REQUIRES: valid UTF-8.
std::string_view Utf8Prefix(std::string_view text, size_t max_bytes);

// The same for a message: with "…" behind it where something was left out.
std::string Abbreviate(std::string_view text, size_t max_bytes);

}  // namespace idefics
