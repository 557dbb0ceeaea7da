// SPDX-License-Identifier: Apache-2.0
// One small answer of a server: for `idefics-server health` and `probe`.
#pragma once

#include <chrono>
#include <string>

#include "common/status.h"

namespace idefics {

struct ProbeAnswer {
  long status = 0;
  std::string body;  // at most 64 KiB
};

// The answer to GET. Blocks. kFetchFailed says why there is none.
Result<ProbeAnswer> Probe(const std::string& url, std::chrono::milliseconds time);

}  // namespace idefics
