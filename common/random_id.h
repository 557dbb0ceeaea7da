// SPDX-License-Identifier: Apache-2.0
// Ids that nobody can guess.
#pragma once

#include <string>

namespace idefics {

// 128 random bits as 32 lower-case hex digits. Any thread.
std::string RandomHex();

}  // namespace idefics
