// SPDX-License-Identifier: Apache-2.0
// Which request something is done for, and whose span it is below. Beside log lines and spans
// nothing depends on it. A value.
#pragma once

#include <string>

#include "common/log.h"
#include "server/trace/span.h"

namespace idefics {

struct RequestOrigin {
  std::string request_id;
  SpanParent span;  // its context exists where the request belongs to a trace
  SpanId caller{};  // whose span `span` is below; zeros: nobody's

  // The same request, for a piece of its work that has a span of its own.
  RequestOrigin Below() const;
};

// Adds what log lines that belong to it have.
void AddLogMembers(const RequestOrigin& origin, LogMembers& members);

}  // namespace idefics
