// SPDX-License-Identifier: Apache-2.0
// Wall-clock times as APIs show them.
#pragma once

#include <chrono>
#include <string>

namespace idefics {

// In UTC, to the microsecond: "2026-08-21T10:00:00.123456+00:00".
std::string Rfc3339(std::chrono::system_clock::time_point time);

}  // namespace idefics
