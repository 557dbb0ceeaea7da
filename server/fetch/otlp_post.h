// SPDX-License-Identifier: Apache-2.0
// Posts spans to a collector. Its address is the operator's, and so may be any. One thread.
#pragma once

#include <memory>

#include "server/trace/tracer.h"

namespace idefics {

// nullptr: the options name no collector.
std::unique_ptr<SpanPost> MakeOtlpPost(const TraceOptions& options);

}  // namespace idefics
