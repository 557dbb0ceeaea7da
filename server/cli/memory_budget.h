// SPDX-License-Identifier: Apache-2.0
// How many bytes of requests a server may hold (--memory-budget). Start-up only.
#pragma once

#include <cstdint>

namespace idefics {

struct MemoryBudget {
  uint64_t images = 0;    // that are being decoded; a quarter, at most DecodeMemory::kAmpleBytes
  uint64_t requests = 0;  // the rest: bodies, what is made of them, files, kept jobs, answers
};

// Shares of `given`, or where it is 0 of a quarter of what this process can still get: the
// machine's available memory, or what its cgroup has left; of 256 MiB at least.
MemoryBudget DivideMemory(int64_t given);

}  // namespace idefics
