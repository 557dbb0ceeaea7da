// SPDX-License-Identifier: Apache-2.0
// data:[<media type>][;name=value…][;base64],<data>, as Python's urllib reads it. Pure; any thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace idefics {

bool IsDataUri(std::string_view text);

// The bytes; the media type is not trusted and not returned. The data is percent-decoded first;
// characters that are no base64 are skipped. kInvalidInput: no comma, or base64 that breaks off;
// kTooLarge: more than `max_bytes`.
Result<std::vector<uint8_t>> DecodeDataUri(std::string_view uri, uint64_t max_bytes);

}  // namespace idefics
