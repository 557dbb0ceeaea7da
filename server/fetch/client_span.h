// SPDX-License-Identifier: Apache-2.0
// A request of ours to another program as a span. Nothing happens where nobody wants spans. Private
// to server/fetch. One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "server/fetch/outbound.h"
#include "server/trace/span.h"

namespace idefics {

class ClientSpan {
 public:
  ClientSpan() = default;
  // It begins now.
  ClientSpan(const SpanParent& parent, const char* method, const std::string& url);

  // Tells the other program where it is called from. `with_state`: also what the trace's vendors
  // wrote, which is not for strangers.
  void AddHeaders(bool with_state, HeaderLines* lines) const;

  bool wanted() const { return span_.has_value(); }
  // `name`: a constant.
  void Note(const char* name, std::variant<int64_t, std::string> value);

  // `status`: of its answer, 0 where there was none. `error`: the class of its failure, or "". Only
  // the first end counts.
  void End(long status, const std::string& error);

 private:
  SpanSink* sink_ = nullptr;
  std::optional<Span> span_;  // until its end; what it views is set there
  std::string trace_state_;
  std::vector<std::pair<const char*, std::variant<int64_t, std::string>>> notes_;
};

}  // namespace idefics
