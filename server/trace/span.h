// SPDX-License-Identifier: Apache-2.0
// A piece of work of a trace, and how those who make spans get at the tracer. Values.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "server/trace/trace_context.h"

namespace idefics {

// Views, as a span's: they need to live only until its sink has it.
struct SpanAttribute {
  std::string_view name;
  std::variant<bool, int64_t, double, std::string_view, std::span<const std::string_view>> value;
};

struct Span {
  using Clock = std::chrono::steady_clock;
  enum class Kind { kInternal = 1, kServer = 2, kClient = 3 };  // as OTLP numbers them

  std::string_view name;
  Kind kind = Kind::kInternal;
  TraceContext context;          // its own place
  SpanId parent{};               // zeros: it is the first of its trace
  bool remote_parent = false;    // the parent is another program's
  std::string_view trace_state;  // the header `tracestate`, as it came
  Clock::time_point begin{};
  Clock::time_point end{};
  std::span<const SpanAttribute> attributes;
  std::string_view error;  // not empty: it failed, and this is the class of its failure
};

// Takes spans that have ended. Any thread; returns at once.
class SpanSink {
 public:
  virtual ~SpanSink() = default;
  virtual void Add(const Span& span) = 0;
};

// Under which span work is done. Without a sink nobody wants to know.
struct SpanParent {
  SpanSink* sink = nullptr;
  TraceContext context;
  std::string trace_state{};

  // A span below it, to be completed and given to the sink.
  Span Child(std::string_view name, Span::Kind kind, Span::Clock::time_point begin) const {
    Span span;
    span.name = name;
    span.kind = kind;
    span.context = context.Child();
    span.parent = context.span_id;
    span.trace_state = trace_state;
    span.begin = begin;
    return span;
  }
};

}  // namespace idefics
