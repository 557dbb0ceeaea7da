// SPDX-License-Identifier: Apache-2.0
#include "server/fetch/data_uri.h"

#include <strings.h>

#include <array>
#include <string>

#include "common/ascii.h"

namespace idefics {
namespace {

constexpr int8_t kNoDigit = -1;

constexpr std::array<int8_t, 256> MakeDigits() {
  std::array<int8_t, 256> digits{};
  for (auto& digit : digits) digit = kNoDigit;
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < kAlphabet.size(); ++i) {
    digits[static_cast<unsigned char>(kAlphabet[i])] = static_cast<int8_t>(i);
  }
  return digits;
}
constexpr std::array<int8_t, 256> kDigits = MakeDigits();

// Python's binascii.a2b_base64, not strict.
Result<std::vector<uint8_t>> Base64Decoded(std::string_view text) {
  std::vector<uint8_t> out;
  out.reserve(text.size() / 4 * 3 + 3);
  uint32_t bits = 0;
  int num_digits = 0;  // of the current group of four
  int num_pads = 0;
  for (const char c : text) {
    if (c == '=') {
      if (num_digits >= 2 && num_digits + ++num_pads >= 4) return out;
      continue;
    }
    const int8_t digit = kDigits[static_cast<uint8_t>(c)];
    if (digit == kNoDigit) continue;
    num_pads = 0;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    if (num_digits > 0) out.push_back(static_cast<uint8_t>(bits >> (6 - 2 * num_digits)));
    num_digits = (num_digits + 1) % 4;
  }
  if (num_digits != 0) {
    return Status::InvalidInput(
        "the base64 data of a data URI breaks off: its length must be a multiple of 4 with '='");
  }
  return out;
}

bool EndsWithBase64(std::string_view header) {
  constexpr std::string_view kMark = ";base64";
  return header.size() >= kMark.size() &&
         strncasecmp(header.data() + header.size() - kMark.size(), kMark.data(), kMark.size()) == 0;
}

}  // namespace

bool IsDataUri(std::string_view text) {
  return text.size() >= 5 && strncasecmp(text.data(), "data:", 5) == 0;
}

Result<std::vector<uint8_t>> DecodeDataUri(std::string_view uri, uint64_t max_bytes) {
  const size_t comma = uri.find(',');
  if (!IsDataUri(uri) || comma == std::string_view::npos) {
    return Status::InvalidInput(
        "a data URI has no comma: write data:image/png;base64,DATA with the data after it");
  }
  const bool base64 = EndsWithBase64(uri.substr(0, comma));
  const std::string data = PercentDecode(uri.substr(comma + 1));
  std::vector<uint8_t> bytes;
  if (base64) {
    ASSIGN_OR_RETURN(bytes, Base64Decoded(data));
  } else {
    bytes.assign(data.begin(), data.end());
  }
  if (bytes.size() > max_bytes) {
    return Status::TooLarge("the image of a data URI has " + std::to_string(bytes.size()) +
                            " bytes, the limit is " + std::to_string(max_bytes) +
                            " (--max-image-bytes)");
  }
  return bytes;
}

}  // namespace idefics
