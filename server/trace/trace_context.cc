// SPDX-License-Identifier: Apache-2.0
#include "server/trace/trace_context.h"

#include <cstddef>
#include <span>

#include "common/random_id.h"

namespace idefics {
namespace {

constexpr size_t kHeaderBytes = 55;  // version-trace_id-span_id-flags

// -1: not a lower-case hex digit.
int DigitOf(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// REQUIRES: two digits for each byte.
bool ReadHex(std::string_view digits, std::span<unsigned char> bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    const int high = DigitOf(digits[2 * i]);
    const int low = DigitOf(digits[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    bytes[i] = static_cast<unsigned char>(high << 4 | low);
  }
  return true;
}

}  // namespace

TraceContext TraceContext::Child() const {
  TraceContext child = *this;
  FillUnique(child.span_id);
  return child;
}

std::string TraceContext::Header() const {
  return "00-" + ToHex(trace_id) + "-" + ToHex(span_id) + (sampled ? "-01" : "-00");
}

TraceContext NewTrace(bool sampled) {
  TraceContext context;
  FillUnique(context.trace_id);
  context.sampled = sampled;
  return context.Child();
}

std::optional<TraceContext> ParseTraceparent(std::string_view header) {
  if (header.size() < kHeaderBytes) return std::nullopt;
  std::array<unsigned char, 1> version{};
  std::array<unsigned char, 1> flags{};
  TraceContext context;
  const bool dashes = header[2] == '-' && header[35] == '-' && header[52] == '-';
  if (!dashes || !ReadHex(header.substr(0, 2), version) ||
      !ReadHex(header.substr(3, 32), context.trace_id) ||
      !ReadHex(header.substr(36, 16), context.span_id) || !ReadHex(header.substr(53, 2), flags)) {
    return std::nullopt;
  }
  const bool longer = header.size() > kHeaderBytes;
  if (version[0] == 0xff || (longer && (version[0] == 0 || header[kHeaderBytes] != '-'))) {
    return std::nullopt;
  }
  if (!context.exists() || context.span_id == SpanId{}) return std::nullopt;
  context.sampled = (flags[0] & 1) != 0;
  return context;
}

}  // namespace idefics
