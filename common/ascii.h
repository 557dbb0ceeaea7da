// SPDX-License-Identifier: Apache-2.0
// Text as bytes, whatever the locale. Pure.
#pragma once

#include <string>
#include <string_view>

namespace idefics {

// Of A to Z only.
std::string ToLower(std::string_view text);

// Without the spaces at both ends; other white space stays.
std::string_view StripSpaces(std::string_view text);

// 0..15; -1 for what is no hexadecimal digit.
int HexDigit(char c);

// "%41" becomes "A"; broken escapes stay as they are.
std::string PercentDecode(std::string_view text);

}  // namespace idefics
