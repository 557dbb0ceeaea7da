// SPDX-License-Identifier: Apache-2.0
// Spans as OTLP sends them: an ExportTraceServiceRequest in protobuf's binary form
// (opentelemetry/proto/collector/trace/v1/trace_service.proto, 1.x). Pure.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <vector>

#include "server/trace/span.h"

namespace idefics {

// `wall_offset`: what a span's clock lacks to the time since 1970.
std::string OtlpRequest(std::span<const Span> spans, const std::vector<SpanAttribute>& resource,
                        std::chrono::nanoseconds wall_offset);

}  // namespace idefics
