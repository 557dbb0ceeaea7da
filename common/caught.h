// SPDX-License-Identifier: Apache-2.0
// For the outermost catch of a thread that must not end: says what was caught.
#pragma once

namespace idefics {

// An error line "WHAT ended in an exception: …", or a plain one where there is no memory for it.
// REQUIRES: called in a catch.
void LogCaught(const char* what) noexcept;

}  // namespace idefics
