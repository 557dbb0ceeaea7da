// SPDX-License-Identifier: Apache-2.0
#include "common/random_id.h"

#include <sys/random.h>

#include <array>

#include "common/check.h"

namespace idefics {

std::string RandomHex() {
  std::array<unsigned char, 16> bits;
  IDEFICS_CHECK(getrandom(bits.data(), bits.size(), 0) == static_cast<ssize_t>(bits.size()));
  constexpr const char* kDigits = "0123456789abcdef";
  std::string hex;
  for (const unsigned char byte : bits) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

}  // namespace idefics
