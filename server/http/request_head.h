// SPDX-License-Identifier: Apache-2.0
// The strict parser of a request's head. It judges the raw bytes before httplib sees them:
// everything that two parsers could read differently (request smuggling) is refused. Pure
// functions.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "server/http/message.h"

namespace idefics {

struct HeadLimits {
  size_t max_target_bytes = 32 * 1024;
  size_t max_head_bytes = 64 * 1024;
  size_t max_headers = 100;
};

struct RequestHead {
  std::string method;
  std::string target;
  bool http_1_0 = false;
  HttpHeaders headers;
  bool chunked = false;
  uint64_t content_length = 0;
  bool keep_alive = true;
  bool expect_continue = false;
  // By when its body must be there, where somebody has begun to wait for it.
  std::optional<std::chrono::steady_clock::time_point> body_deadline{};

  std::string_view path() const { return std::string_view(target).substr(0, target.find('?')); }
  bool has_body() const { return chunked || content_length > 0; }
};

// Why a head is refused: the answer's status and a sentence.
struct HeadError {
  int status = 400;
  std::string message;
};

// Offset just past the blank line that ends the head; npos while it is not complete. The first
// `num_scanned` bytes were looked at before.
size_t FindHeadEnd(std::string_view bytes, size_t num_scanned = 0);

// Whether it holds a control character; a tab is one unless `tab_allowed`.
bool HasControl(std::string_view text, bool tab_allowed);

// An error that can be told before the head is complete (too long already).
std::optional<HeadError> CheckPartialHead(std::string_view bytes, const HeadLimits& limits);

// `bytes`: a complete head, blank line included. On an error `*head` holds nothing of use.
std::optional<HeadError> ParseHead(std::string_view bytes, const HeadLimits& limits,
                                   RequestHead* head);

}  // namespace idefics
