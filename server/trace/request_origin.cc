// SPDX-License-Identifier: Apache-2.0
#include "server/trace/request_origin.h"

#include "common/random_id.h"

namespace idefics {

RequestOrigin RequestOrigin::Below() const {
  RequestOrigin below = *this;
  if (span.sink == nullptr) return below;
  below.span.context = span.context.Child();
  below.caller = span.context.span_id;
  return below;
}

std::vector<LogField> LogFieldsOf(const RequestOrigin& origin) {
  std::vector<LogField> fields;
  fields.reserve(3);
  if (!origin.request_id.empty()) fields.push_back({"request_id", origin.request_id});
  const TraceContext& context = origin.span.context;
  if (context.exists()) {
    fields.push_back({"trace_id", ToHex(context.trace_id)});
    fields.push_back({"span_id", ToHex(context.span_id)});
  }
  return fields;
}

}  // namespace idefics
