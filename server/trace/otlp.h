// SPDX-License-Identifier: Apache-2.0
// Spans as OTLP sends them: an ExportTraceServiceRequest in protobuf's binary form
// (opentelemetry/proto/collector/trace/v1/trace_service.proto, 1.x). Pure.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "server/trace/span.h"

namespace idefics {

using OtlpBytes = std::vector<char>;  // a string's push_back is a call, and spans are full of them

// Appends a span as a part of a request. `wall_offset`: what its clock lacks to the time since
// 1970.
void AppendOtlpSpan(const Span& span, std::chrono::nanoseconds wall_offset, OtlpBytes* spans);

// Appends the request with such parts. `resource`: attributes of who sends them.
void AppendOtlpRequest(std::span<const char> spans,
                       const std::vector<std::pair<std::string, std::string>>& resource,
                       OtlpBytes* request);

}  // namespace idefics
