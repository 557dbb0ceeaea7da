// SPDX-License-Identifier: Apache-2.0
// HttpResponse -> bytes on a connection: status line, headers, and a body that is whole, chunked
// or, for HTTP/1.0, ended by closing. Worker thread.
#pragma once

#include <string>

#include "server/http/connection.h"
#include "server/http/message.h"
#include "server/http/request_head.h"

namespace idefics {

// What the peer does not take at once is kept in the connection, and so is a streamed body.
// `keep_alive`: what the answer says of the connection. False: the peer is gone.
bool WriteResponse(HttpResponse response, const RequestHead& head, bool keep_alive,
                   Connection& connection);

// Writes what the connection's stream has now, as far as the peer takes it; what it does not take
// is kept, and ends the turn. False: the peer is gone.
bool WriteStream(Connection& connection);

// The bytes of a short plain-text answer that ends the connection.
std::string RefusalBytes(int status, const std::string& message);

}  // namespace idefics
