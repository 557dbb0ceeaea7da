// SPDX-License-Identifier: Apache-2.0
// Spans as OTLP sends them: an ExportTraceServiceRequest in protobuf's binary form
// (opentelemetry/proto/collector/trace/v1/trace_service.proto, 1.x). Pure.
#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "server/trace/span.h"

namespace idefics {

using OtlpBytes = std::vector<char>;
using OtlpResource = std::vector<std::pair<std::string, std::string>>;  // who sends spans

// A span as a part of a request, at the end of `memory`, which grows where it is too short.
// `wall_offset`: what the span's clock lacks to the time since 1970.
std::span<const char> WriteOtlpSpan(const Span& span, std::chrono::nanoseconds wall_offset,
                                    OtlpBytes* memory);

// At most so many bytes stand before the spans of a request.
size_t OtlpHeadBytes(const OtlpResource& resource);

// Completes a request: `head_bytes` of any content, then its spans. Returns it: the head need not
// take all of its room.
std::span<const char> WriteOtlpHead(const OtlpResource& resource, size_t head_bytes,
                                    OtlpBytes* request);

}  // namespace idefics
