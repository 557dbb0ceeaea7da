// SPDX-License-Identifier: Apache-2.0
// A place in a trace, and its header `traceparent` (W3C Trace Context). Values; pure but for the
// random ids.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace idefics {

using TraceId = std::array<unsigned char, 16>;
using SpanId = std::array<unsigned char, 8>;  // zeros: none

struct TraceContext {
  TraceId trace_id{};  // zeros: of no trace
  SpanId span_id{};
  bool sampled = false;  // whoever began the trace wants its spans

  bool exists() const { return trace_id != TraceId{}; }
  // A new place in the same trace.
  TraceContext Child() const;
  // The value of `traceparent`.
  std::string Header() const;
};

// The first place of a new trace.
TraceContext NewTrace(bool sampled);

// nullopt: no such header. One of a later version counts by its first four fields.
std::optional<TraceContext> ParseTraceparent(std::string_view header);

}  // namespace idefics
