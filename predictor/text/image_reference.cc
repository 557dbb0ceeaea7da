// SPDX-License-Identifier: Apache-2.0
#include "predictor/text/image_reference.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <string>

#include "common/ascii.h"
#include "common/utf8.h"

namespace idefics {
namespace {

// Locale-free <cctype>.
bool IsAlpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsHexDigit(char c) { return HexDigit(c) >= 0; }
bool IsSchemeChar(char c) { return IsAlpha(c) || IsDigit(c) || c == '+' || c == '-' || c == '.'; }

// Every code point whose NFKC form holds one of / ? # @ : (Unicode 14, Python 3.11's; made by
// trying all of them). No composition starts with one of these, so one by one is enough.
constexpr std::array<char32_t, 19> kUnsafeHostCharacters = {
    0x2047, 0x2048, 0x2049, 0x2100, 0x2101, 0x2105, 0x2106, 0x2A74, 0xFE13, 0xFE16,
    0xFE55, 0xFE56, 0xFE5F, 0xFE6B, 0xFF03, 0xFF0F, 0xFF1A, 0xFF1F, 0xFF20};

bool HasUnsafeCharacter(std::string_view host_part) {
  while (!host_part.empty()) {
    const Utf8Character character = DecodeUtf8(host_part);
    if (std::ranges::find(kUnsafeHostCharacters, character.code_point) !=
        kUnsafeHostCharacters.end()) {
      return true;
    }
    host_part.remove_prefix(std::max(character.num_bytes, 1));
  }
  return false;
}

// RFC 4291 text form with an optional RFC 4007 zone ("fe80::1%eth0").
bool IsIpv6Address(std::string_view host) {
  const size_t zone = host.find('%');
  if (zone != std::string_view::npos) {
    const std::string_view name = host.substr(zone + 1);
    if (name.empty() || name.find('%') != std::string_view::npos) return false;
    host = host.substr(0, zone);
  }
  if (host.find('\0') != std::string_view::npos) return false;
  in6_addr address;
  return inet_pton(AF_INET6, std::string(host).c_str(), &address) == 1;
}

// "v" hex digits "." anything (RFC 3986 IPvFuture).
bool IsFutureAddress(std::string_view host) {
  if (!host.starts_with('v')) return false;
  const auto digits_end = std::find_if_not(host.begin() + 1, host.end(), IsHexDigit);
  const size_t num_digits = digits_end - host.begin() - 1;
  return num_digits > 0 && host.size() > num_digits + 2 && host[num_digits + 1] == '.';
}

bool BracketsAreWrong(std::string_view host_part) {
  const size_t open = host_part.find('[');
  const bool has_close = host_part.find(']') != std::string_view::npos;
  if ((open != std::string_view::npos) != has_close) return true;
  if (!has_close) return false;
  const std::string_view after = host_part.substr(open + 1);
  const std::string_view host = after.substr(0, after.find(']'));
  return host.starts_with('v') ? !IsFutureAddress(host) : !IsIpv6Address(host);
}

constexpr size_t kMaxShownBytes = 100;  // of a host in a message

}  // namespace

Result<bool> LooksLikeUrl(std::string_view text) {
  if (text.find(' ') != std::string_view::npos) return false;
  const auto begin =
      std::ranges::find_if(text, [](char c) { return static_cast<uint8_t>(c) > 0x20; });
  text.remove_prefix(begin - text.begin());
  std::string url;
  std::ranges::copy_if(text, std::back_inserter(url),
                       [](char c) { return c != '\t' && c != '\r' && c != '\n'; });
  std::string_view rest = url;
  const size_t colon = rest.find(':');
  const bool has_scheme = colon != std::string_view::npos && IsAlpha(rest[0]) &&
                          std::ranges::all_of(rest.substr(0, colon), IsSchemeChar);
  if (has_scheme) rest.remove_prefix(colon + 1);
  if (!rest.starts_with("//")) return false;
  rest.remove_prefix(2);
  const std::string_view host_part = rest.substr(0, rest.find_first_of("/?#"));
  if (BracketsAreWrong(host_part)) {
    return Status::InvalidInput("a text looks like a URL whose host '" +
                                Abbreviate(host_part, kMaxShownBytes) +
                                "' has brackets around no IPv6 address; mend the address, or put "
                                "a space into the text if it is no URL");
  }
  if (HasUnsafeCharacter(host_part)) {
    return Status::InvalidInput("a text looks like a URL whose host '" +
                                Abbreviate(host_part, kMaxShownBytes) +
                                "' holds a character that stands for one of / ? # @ :; write the "
                                "plain character, or put a space into the text if it is no URL");
  }
  return has_scheme && !host_part.empty();
}

bool LooksLikeDataUri(std::string_view text) {
  constexpr std::string_view kScheme = "data:";
  constexpr size_t kMaxHeaderBytes = 1000;
  if (ToLower(text.substr(0, kScheme.size())) != kScheme) return false;
  text = text.substr(kScheme.size(), kMaxHeaderBytes + 1);
  const size_t comma = text.find(',');
  if (comma == std::string_view::npos) return false;
  const std::string header = ToLower(text.substr(0, comma));
  const bool plain = std::ranges::all_of(
      header, [](char c) { return static_cast<uint8_t>(c) > 0x20 && c != 0x7F; });
  return plain && (header.starts_with("image/") || header.ends_with(";base64"));
}

}  // namespace idefics
