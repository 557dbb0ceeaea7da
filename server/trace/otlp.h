// SPDX-License-Identifier: Apache-2.0
// Spans as OTLP sends them: an ExportTraceServiceRequest in protobuf's binary form
// (opentelemetry/proto/collector/trace/v1/trace_service.proto, 1.x). Pure.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/trace/span.h"

namespace idefics {

// Appends a span as a part of a request. `wall_offset`: what its clock lacks to the time since
// 1970.
void AppendOtlpSpan(const Span& span, std::chrono::nanoseconds wall_offset, std::string* spans);

// The request with such parts. `resource`: attributes of who sends them.
std::string OtlpRequest(std::string_view spans,
                        const std::vector<std::pair<std::string, std::string>>& resource);

}  // namespace idefics
