// SPDX-License-Identifier: Apache-2.0
#include "common/random_id.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <random>

#include "common/check.h"

namespace idefics {
namespace {

constexpr std::array<std::array<char, 2>, 256> kHexOf = [] {
  constexpr const char* kDigits = "0123456789abcdef";
  std::array<std::array<char, 2>, 256> hex{};
  for (size_t byte = 0; byte < hex.size(); ++byte) {
    hex[byte] = {kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return hex;
}();

}  // namespace

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

void FillUnique(std::span<unsigned char> bytes) {
  thread_local std::mt19937_64 t_generator = [] {
    std::array<uint32_t, 8> seed;
    FillRandom({reinterpret_cast<unsigned char*>(seed.data()), sizeof seed});
    std::seed_seq sequence(seed.begin(), seed.end());
    return std::mt19937_64(sequence);
  }();
  while (!bytes.empty()) {
    const uint64_t bits = t_generator();
    const size_t count = std::min(bytes.size(), sizeof bits);
    std::memcpy(bytes.data(), &bits, count);
    bytes = bytes.subspan(count);
  }
}

void WriteHex(std::span<const unsigned char> bytes, char* digits) {
  for (const unsigned char byte : bytes) digits = std::copy_n(kHexOf[byte].begin(), 2, digits);
}

std::string ToHex(std::span<const unsigned char> bytes) {
  std::string hex(2 * bytes.size(), '0');
  WriteHex(bytes, hex.data());
  return hex;
}

std::string RandomHex() {
  std::array<unsigned char, 16> bits;
  FillRandom(bits);
  return ToHex(bits);
}

}  // namespace idefics
