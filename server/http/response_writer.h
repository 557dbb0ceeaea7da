// SPDX-License-Identifier: Apache-2.0
// HttpResponse -> bytes on a connection: status line, headers, and a body that is whole, chunked
// or, for HTTP/1.0, ended by closing. Worker thread.
#pragma once

#include <chrono>
#include <string>

#include "server/http/connection.h"
#include "server/http/message.h"
#include "server/http/request_head.h"

namespace idefics {

struct WriteOptions {
  bool keep_alive = true;                   // what the answer says of the connection
  std::chrono::milliseconds stall{30'000};  // a peer that takes no byte for so long is given up
};

// What the peer does not take at once of an answer that is no stream is kept in the connection.
// False: the peer is gone or was given up.
bool WriteResponse(HttpResponse response, const RequestHead& head, const WriteOptions& options,
                   Connection& connection);

// The bytes of a short plain-text answer that ends the connection.
std::string RefusalBytes(int status, const std::string& message);

}  // namespace idefics
