// SPDX-License-Identifier: Apache-2.0
#include "common/random_id.h"

#include <sys/random.h>

#include <array>

#include "common/check.h"

namespace idefics {

void FillRandom(std::span<unsigned char> bytes) {
  IDEFICS_CHECK(getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
}

std::string ToHex(std::span<const unsigned char> bytes) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string hex;
  for (const unsigned char byte : bytes) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

std::string RandomHex() {
  std::array<unsigned char, 16> bits;
  FillRandom(bits);
  return ToHex(bits);
}

}  // namespace idefics
