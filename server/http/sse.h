// SPDX-License-Identifier: Apache-2.0
// Framing of server-sent events (WHATWG HTML 9.2). Pure.
#pragma once

#include <string>
#include <string_view>

namespace idefics {

// A comment: keeps a silent connection open.
inline constexpr std::string_view kSseKeepAlive = ": keep-alive\n\n";

// REQUIRES: neither holds a line break.
inline void AppendSseEvent(std::string_view name, std::string_view data, std::string* out) {
  *out += "event: ";
  *out += name;
  *out += "\ndata: ";
  *out += data;
  *out += "\n\n";
}

// `text/event-stream` among the types of an Accept header; "*/*" is not enough. Case-sensitive, as
// coglet. nullptr: there is no such header.
bool WantsEventStream(const std::string* accept);

}  // namespace idefics
