// SPDX-License-Identifier: Apache-2.0
// The size of the KV arena where no flag gives it (--kv-tokens 0).
#pragma once

#include <cstdint>
#include <filesystem>

namespace idefics {

// Bytes that this process can still take on the host: what the system has available, or what the
// container's limit (cgroup v2) leaves, whichever is less. `root`: of the file system, for tests.
// 0: unknown.
uint64_t FreeHostBytes(const std::filesystem::path& root = "/");

// Tokens that fit in half of the free memory (the rest is for activations, images and other
// processes), at most `max_tokens`, because more could not be used. At least enough for a short
// answer, so that a small machine fails by a real allocation and not by this estimate.
int64_t KvTokensThatFit(uint64_t free_bytes, uint64_t bytes_per_token, int64_t max_tokens);

}  // namespace idefics
