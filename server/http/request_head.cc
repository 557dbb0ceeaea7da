// SPDX-License-Identifier: Apache-2.0
#include "server/http/request_head.h"

#include <algorithm>
#include <cctype>

namespace idefics {
namespace {

bool IsTokenChar(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool IsToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), IsTokenChar);
}

bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) ==
           std::tolower(static_cast<unsigned char>(y));
  });
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// "http://host/x" is "/x" (RFC 9112 3.2.2); "" for what is neither that nor a path nor "*".
std::string OriginForm(std::string_view target) {
  if (target.front() == '/' || target == "*") return std::string(target);
  constexpr std::string_view kScheme = "http://";
  if (!EqualsIgnoreCase(target.substr(0, kScheme.size()), kScheme)) return "";
  const size_t path = target.find_first_of("/?", kScheme.size());
  if (path == std::string_view::npos) return "/";
  return (target[path] == '?' ? "/" : "") + std::string(target.substr(path));
}

std::optional<HeadError> ParseRequestLine(std::string_view line, const HeadLimits& limits,
                                          RequestHead* head) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return HeadError{400, "The request line must be METHOD TARGET HTTP/1.1."};
  }
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!IsToken(method) || method.size() > 32) return HeadError{400, "The method is not a token."};
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    return HeadError{505, "Only HTTP/1.1 and HTTP/1.0 are spoken."};
  }
  if (target.size() > limits.max_target_bytes) {
    return HeadError{414, "The request target is longer than " +
                              std::to_string(limits.max_target_bytes) + " bytes."};
  }
  if (target.empty() || target.find(' ') != std::string_view::npos || HasControl(target, false)) {
    return HeadError{400, "The request target holds a space or a control character."};
  }
  if (target.find('#') != std::string_view::npos || (target == "*" && method != "OPTIONS")) {
    return HeadError{400, "The request target is neither a path nor an URL without a fragment."};
  }
  head->method = method;
  head->target = OriginForm(target);
  if (head->target.empty()) return HeadError{400, "The request target must begin with '/'."};
  head->http_1_0 = version == "HTTP/1.0";
  return std::nullopt;
}

std::optional<HeadError> ParseContentLength(std::string_view value, RequestHead* head) {
  constexpr size_t kMaxDigits = 18;  // fits 64 bits
  if (value.empty() || value.size() > kMaxDigits ||
      !std::all_of(value.begin(), value.end(),
                   [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; })) {
    return HeadError{400, "Content-Length must be a decimal number."};
  }
  head->content_length = 0;
  for (const char c : value) {
    head->content_length = head->content_length * 10 + static_cast<uint64_t>(c - '0');
  }
  return std::nullopt;
}

// uri-host [":" port], or nothing.
bool IsHost(std::string_view text) {
  const bool literal = text.starts_with('[');
  const size_t end = literal ? text.find(']') : std::min(text.find(':'), text.size());
  if (end == std::string_view::npos) return false;
  const std::string_view name = text.substr(0, end);
  const std::string_view port = text.substr(std::min(text.size(), end + (literal ? 1 : 0)));
  const auto of = [](std::string_view part, std::string_view more) {
    return std::all_of(part.begin(), part.end(), [&](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) != 0 || more.find(c) != more.npos;
    });
  };
  const bool good_name = literal ? of(name.substr(1), ":.") : of(name, "-._~%!$&'()*+,;=");
  if (!good_name || (name.empty() && !port.empty())) return false;
  return port.empty() || (port.front() == ':' && port.size() <= 6 &&
                          std::all_of(port.begin() + 1, port.end(), [](char c) {
                            return std::isdigit(static_cast<unsigned char>(c)) != 0;
                          }));
}

// RFC 9112 6.3, without its tolerances: one Content-Length or "chunked", never both.
std::optional<HeadError> ParseFraming(RequestHead* head) {
  int num_lengths = 0;
  int num_encodings = 0;
  head->keep_alive = !head->http_1_0;
  for (const auto& [name, value] : head->headers) {
    if (EqualsIgnoreCase(name, "Content-Length")) {
      ++num_lengths;
      if (auto error = ParseContentLength(value, head)) return error;
    } else if (EqualsIgnoreCase(name, "Transfer-Encoding")) {
      ++num_encodings;
      if (!EqualsIgnoreCase(value, "chunked")) {
        return HeadError{501, "The only Transfer-Encoding understood is chunked."};
      }
      head->chunked = true;
    } else if (EqualsIgnoreCase(name, "Connection")) {
      if (EqualsIgnoreCase(value, "close")) head->keep_alive = false;
      if (EqualsIgnoreCase(value, "keep-alive")) head->keep_alive = true;
    } else if (EqualsIgnoreCase(name, "Expect")) {
      if (!EqualsIgnoreCase(value, "100-continue")) {
        return HeadError{417, "The only Expect understood is 100-continue."};
      }
      head->expect_continue = true;
    }
  }
  if (num_lengths > 1 || num_encodings > 1 || (num_lengths == 1 && num_encodings == 1)) {
    return HeadError{400, "A request has one Content-Length or one Transfer-Encoding, not both."};
  }
  if (head->chunked && head->http_1_0) {
    return HeadError{400, "HTTP/1.0 has no Transfer-Encoding."};
  }
  return std::nullopt;
}

// RFC 9112 3.2: a request of HTTP/1.1 has one, and no two; what is no host is refused in each.
std::optional<HeadError> CheckHost(const RequestHead& head) {
  int count = 0;
  for (const auto& [name, value] : head.headers) {
    if (!EqualsIgnoreCase(name, "Host")) continue;
    ++count;
    if (!IsHost(value)) return HeadError{400, "The Host header is no host."};
  }
  if (count > 1 || (count == 0 && !head.http_1_0)) {
    return HeadError{400, "A request has one Host header."};
  }
  return std::nullopt;
}

}  // namespace

bool HasControl(std::string_view text, bool tab_allowed) {
  return std::any_of(text.begin(), text.end(), [&](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && !(tab_allowed && c == '\t')) || c == 0x7f;
  });
}

const std::string* FindHeader(const HttpHeaders& headers, std::string_view name) {
  for (const auto& [key, value] : headers) {
    if (EqualsIgnoreCase(key, name)) return &value;
  }
  return nullptr;
}

size_t FindHeadEnd(std::string_view bytes, size_t num_scanned) {
  const size_t end = bytes.find("\r\n\r\n", num_scanned - std::min<size_t>(num_scanned, 3));
  return end == std::string_view::npos ? end : end + 4;
}

std::optional<HeadError> CheckPartialHead(std::string_view bytes, const HeadLimits& limits) {
  // The line as far as it has come: the answer must not depend on how much arrived at once.
  const size_t line_bytes = std::min(bytes.find('\n'), bytes.size());
  constexpr size_t kMethodAndVersionBytes = 64;
  if (line_bytes > limits.max_target_bytes + kMethodAndVersionBytes) {
    return HeadError{414, "The request target is longer than " +
                              std::to_string(limits.max_target_bytes) + " bytes."};
  }
  if (bytes.size() > limits.max_head_bytes) {
    return HeadError{431, "The request head is longer than " +
                              std::to_string(limits.max_head_bytes) + " bytes."};
  }
  // Something that is not HTTP (a TLS hello, binary noise) is told at its first line.
  if (!bytes.empty() && !IsTokenChar(bytes.front())) {
    return HeadError{400, "The request line must be METHOD TARGET HTTP/1.1."};
  }
  return std::nullopt;
}

std::optional<HeadError> ParseHead(std::string_view bytes, const HeadLimits& limits,
                                   RequestHead* head) {
  *head = RequestHead();
  if (auto error = CheckPartialHead(bytes, limits)) return error;
  bytes.remove_suffix(2);  // the blank line's CR LF; every line left ends in CR LF
  bool first = true;
  while (!bytes.empty()) {
    const size_t end = bytes.find("\r\n");
    const std::string_view line = bytes.substr(0, end);
    bytes.remove_prefix(end + 2);
    if (first) {
      if (auto error = ParseRequestLine(line, limits, head)) return error;
      first = false;
      continue;
    }
    const size_t colon = line.find(':');
    // A name with white space before the colon or at the line's start (obs-fold) is no token.
    if (colon == std::string_view::npos || !IsToken(line.substr(0, colon))) {
      return HeadError{400, "A header line must be NAME: VALUE."};
    }
    const std::string_view value = Trim(line.substr(colon + 1));
    if (HasControl(value, true)) return HeadError{400, "A header value holds a control character."};
    if (head->headers.size() == limits.max_headers) {
      return HeadError{
          431, "The request has more than " + std::to_string(limits.max_headers) + " headers."};
    }
    head->headers.emplace_back(line.substr(0, colon), value);
  }
  if (auto error = CheckHost(*head)) return error;
  return ParseFraming(head);
}

}  // namespace idefics
