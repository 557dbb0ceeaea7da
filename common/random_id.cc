// SPDX-License-Identifier: Apache-2.0
#include "common/random_id.h"

#include <sys/random.h>

#include <algorithm>
#include <array>

#include "common/check.h"

namespace idefics {

// A request has half a dozen ids, and the system call is the dear part of each.
void FillRandom(std::span<unsigned char> bytes) {
  thread_local std::array<unsigned char, 256> t_stock;  // as much as getrandom gives in one piece
  thread_local size_t t_left = 0;
  IDEFICS_CHECK(bytes.size() <= t_stock.size());
  if (t_left < bytes.size()) {
    const ssize_t got = getrandom(t_stock.data(), t_stock.size(), 0);
    IDEFICS_CHECK(got == static_cast<ssize_t>(t_stock.size()));
    t_left = t_stock.size();
  }
  std::copy_n(t_stock.end() - static_cast<ptrdiff_t>(t_left), bytes.size(), bytes.begin());
  t_left -= bytes.size();
}

std::string ToHex(std::span<const unsigned char> bytes) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string hex(2 * bytes.size(), '0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    hex[2 * i] = kDigits[bytes[i] >> 4];
    hex[2 * i + 1] = kDigits[bytes[i] & 15];
  }
  return hex;
}

std::string RandomHex() {
  std::array<unsigned char, 16> bits;
  FillRandom(bits);
  return ToHex(bits);
}

}  // namespace idefics
