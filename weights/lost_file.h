// SPDX-License-Identifier: Apache-2.0
// What is said when pages of a mapped file are gone, because somebody cut it short or its disk
// fails: reading one is SIGBUS, which nothing can mend. Private to weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

namespace idefics {

// From now on a SIGBUS within `bytes` writes one log line that names `path`, and ends the process
// with status 1. Any other SIGBUS ends it as before. Any thread.
void WatchMapping(std::span<const uint8_t> bytes, const std::filesystem::path& path);

// Before it is unmapped.
void UnwatchMapping(std::span<const uint8_t> bytes);

}  // namespace idefics
