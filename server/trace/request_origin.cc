// SPDX-License-Identifier: Apache-2.0
#include "server/trace/request_origin.h"

#include <array>
#include <span>
#include <string_view>

#include "common/random_id.h"

namespace idefics {

RequestOrigin RequestOrigin::Below() const {
  RequestOrigin below = *this;
  if (span.sink == nullptr) return below;
  below.span.context = span.context.Child();
  below.caller = span.context.span_id;
  return below;
}

void AddLogMembers(const RequestOrigin& origin, LogMembers& members) {
  if (!origin.request_id.empty()) members.Add("request_id", origin.request_id);
  const TraceContext& context = origin.span.context;
  if (!context.exists()) return;
  const auto add = [&members](std::string_view name, std::span<const unsigned char> id) {
    std::array<char, 2 * sizeof(TraceId)> digits;
    WriteHex(id, digits.data());
    members.Add(name, {digits.data(), 2 * id.size()});
  };
  add("trace_id", context.trace_id);
  add("span_id", context.span_id);
}

}  // namespace idefics
