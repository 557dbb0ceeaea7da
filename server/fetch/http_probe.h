// SPDX-License-Identifier: Apache-2.0
// One small answer of a server on this machine or a public one: for `idefics-server health`.
#pragma once

#include <chrono>
#include <string>

#include "common/status.h"

namespace idefics {

// The body of a 2xx answer to GET, at most 64 KiB of it. Blocks. kFetchFailed says why there is
// none.
Result<std::string> Probe(const std::string& url, std::chrono::milliseconds time);

}  // namespace idefics
