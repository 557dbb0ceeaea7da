// SPDX-License-Identifier: Apache-2.0
// One request and its answer on a connection, run by a worker: the route reads the body through an
// HttpPeer and makes the response, which is written back.
#pragma once

#include <functional>

#include "server/http/body_reader.h"
#include "server/http/connection.h"
#include "server/http/request_head.h"
#include "server/http/router.h"

namespace idefics {

struct ExchangeOptions {
  BodyLimits body;
  bool draining = false;  // the answer says Connection: close
  ByteBudget* memory = nullptr;
  // Calls `callback` once when the connection's peer is gone (message.h).
  std::function<void(Connection&, std::function<void()> callback)> watch_peer;
};

// Routes the request and writes the answer; what its peer does not take at once is kept in the
// connection, and so is a stream. True: then the connection stands at the next request.
bool RunExchange(Connection& connection, const RequestHead& head, const Router& router,
                 const ExchangeOptions& options);

}  // namespace idefics
