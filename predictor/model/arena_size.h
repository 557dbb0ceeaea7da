// SPDX-License-Identifier: Apache-2.0
// How large the KV arena becomes when nobody says (--kv-tokens 0).
#pragma once

#include <cstdint>
#include <filesystem>

namespace idefics {

// Bytes that this process can still take on the host: what the system has available, or what the
// container's limit (cgroup v2) leaves, whichever is less. `root`: of the file system, for tests.
// 0: cannot be told.
uint64_t FreeHostBytes(const std::filesystem::path& root = "/");

// Half of what is free (the rest is for activations, pictures and neighbours), at most `most`
// slots: more could not be used. At least enough for a short answer, so that a small machine fails
// while running, not by a guess.
int64_t KvTokensThatFit(uint64_t free_bytes, uint64_t bytes_per_token, int64_t most);

}  // namespace idefics
