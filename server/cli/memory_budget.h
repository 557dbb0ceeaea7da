// SPDX-License-Identifier: Apache-2.0
// How many bytes of requests a server may hold (--memory-budget). Start-up only.
#pragma once

#include <cstdint>

namespace idefics {

// `given`, or where it is 0 a quarter of what this process can still get: the machine's available
// memory, or what its cgroup has left. 256 MiB at least.
uint64_t MemoryBudget(int64_t given);

}  // namespace idefics
