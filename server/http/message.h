// SPDX-License-Identifier: Apache-2.0
// What the HTTP layer hands to a route and what a route hands back. Plain values; httplib is not
// seen here. A request belongs to the worker thread that runs its route.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/byte_budget.h"
#include "common/status.h"
#include "server/trace/request_origin.h"

namespace idefics {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

// The first value of `name` (case-insensitive), or nullptr.
const std::string* FindHeader(const HttpHeaders& headers, std::string_view name);

// A connection as a running route sees it.
class HttpPeer {
 public:
  virtual ~HttpPeer() = default;

  // The body, de-chunked, within the server's size and time limits; empty when there is none.
  // Errors: kTooLarge (413), kInvalidInput (400, broken framing), kDeadline (408), kCanceled
  // (gone), kOverloaded (503, the memory budget is spent). REQUIRES: called at most once.
  virtual Result<std::string> ReadBody() = 0;

  // True once the client closed its sending side or the connection broke.
  virtual bool Gone() const = 0;

  // `callback` is called once when that happens, now or until the request has ended, on a thread of
  // the server that it must not hold up. Costs a system call: for waits, not for every request.
  virtual void WhenGone(std::function<void()> callback) = 0;
};

struct HttpRequest {
  std::string method;
  std::string path;   // as sent, still percent-encoded, without the query
  std::string query;  // without '?'
  HttpHeaders headers;
  std::string client;  // who asks: its address (PeerName), until who guards the server knows better
  std::vector<std::string> path_parameters;  // decoded values of the route's {names}, in order
  HttpPeer* peer = nullptr;
  RequestOrigin origin{};
  std::chrono::steady_clock::time_point received = std::chrono::steady_clock::now();
  ByteBudget::Share memory{};  // for its body; goes on with what is made of that

  const std::string* Header(std::string_view name) const { return FindHeader(headers, name); }
};

// A body that comes to be in pieces. Called by one thread at a time, which it must not hold up, and
// destroyed by any: before its last piece, the client has left.
class BodySource {
 public:
  struct Piece {
    std::string bytes;
    bool is_last = false;
  };

  virtual ~BodySource() = default;

  // What there is now; often nothing.
  virtual Piece Next() = 0;

  // `stir` is to be called whenever there may be more, by any thread, until this is destroyed.
  // Called once, before the first Next.
  virtual void WhenMore(std::function<void()> stir) = 0;

  // Next is called after so long, too.
  virtual std::chrono::milliseconds patience() const { return std::chrono::hours(1); }
};

struct HttpResponse {
  static HttpResponse Json(int status, std::string body) {
    return {status, {{"Content-Type", "application/json"}}, std::move(body), nullptr, false};
  }
  static HttpResponse Text(int status, std::string body) {
    return {
        status, {{"Content-Type", "text/plain; charset=utf-8"}}, std::move(body), nullptr, false};
  }
  static HttpResponse Empty(int status) { return {status, {}, "", nullptr, false}; }

  int status = 200;
  HttpHeaders headers;
  std::string body;
  std::unique_ptr<BodySource> stream;  // set: the body is what this gives, `body` is unused
  bool close_connection = false;
};

using HttpHandler = std::function<HttpResponse(HttpRequest&)>;

}  // namespace idefics
