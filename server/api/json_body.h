// SPDX-License-Identifier: Apache-2.0
// Bytes of a request's body -> JSON, and JSON -> bytes, for every API.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <variant>

#include "server/http/message.h"
#include "server/jobs/rejection.h"

namespace idefics {

// Reads and parses the body (docs/cog-api.md#request-body). A body without a Content-Type counts
// only where it looks like an object; else it is {}.
// Refused: other content types and encodings, more than 128 levels or 200 000 values (both before
// anything is built), a byte order mark, NUL bytes, one key twice at the top.
std::variant<nlohmann::json, Rejection> ReadJsonBody(HttpRequest& request);

// Text that is not UTF-8 is replaced.
std::string JsonBytes(const nlohmann::json& value);

}  // namespace idefics
