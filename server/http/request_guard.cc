// SPDX-License-Identifier: Apache-2.0
#include "server/http/request_guard.h"

#include <algorithm>
#include <cctype>

#include "common/ascii.h"

namespace idefics {
namespace {

HeadError Forbidden(const char* why) { return {403, why}; }

// "Example.org:80" -> "example.org"; "[::1]:5000" -> "[::1]".
std::string NameOf(std::string_view host) {
  const size_t end = host.starts_with('[') ? host.find(']') + 1 : host.find(':');
  return ToLower(host.substr(0, end));
}

bool IsLocalName(const std::string& name) {
  if (name.starts_with('[') || name.find('.') == std::string::npos) return true;
  if (name.ends_with(".localhost")) return true;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return c == '.' || std::isdigit(static_cast<unsigned char>(c)) != 0;
  });
}

// "https://example.org" and the Host "example.org" are one.
bool IsOwnOrigin(std::string_view origin, const std::string& host) {
  const size_t authority = origin.find("://");
  if (authority == std::string_view::npos) return false;  // "null": a sandbox, a file
  return ToLower(origin.substr(authority + 3)) == ToLower(host);
}

}  // namespace

std::optional<HeadError> CheckCaller(const RequestHead& head, bool loopback,
                                     const CorsPolicy& cors) {
  const std::string* host = FindHeader(head.headers, "Host");
  if (loopback && host != nullptr && !IsLocalName(NameOf(*host))) {
    return Forbidden("The Host is a name that this server, on a loopback address, cannot have.");
  }
  if (head.method == "GET" || head.method == "HEAD" || head.method == "OPTIONS") {
    return std::nullopt;
  }
  const std::string* origin = FindHeader(head.headers, "Origin");
  if (origin != nullptr && cors.Allows(*origin)) return std::nullopt;
  const std::string* site = FindHeader(head.headers, "Sec-Fetch-Site");
  if (site != nullptr && *site != "same-origin" && *site != "none") {
    return Forbidden("A page of another site cannot do this.");
  }
  if (origin != nullptr && (host == nullptr || !IsOwnOrigin(*origin, *host))) {
    return Forbidden("A page of another origin cannot do this.");
  }
  return std::nullopt;
}

}  // namespace idefics
