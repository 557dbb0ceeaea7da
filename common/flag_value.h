// SPDX-License-Identifier: Apache-2.0
// What a flag's value may be: numbers and their limits, choices, devices. Pure functions.
#pragma once

#include <string>
#include <vector>

#include "common/flags.h"
#include "common/status.h"

namespace idefics {

// The value as it is kept ("yes" is "true"). Error: what it must be instead, without the flag's
// name.
Result<std::string> ParseFlagValue(const Flag& flag, const std::string& value);

std::vector<std::string> SplitAt(const char* text, char separator);
// The shortest digits that give the number again: 0.1, 100000.
std::string FormatNumber(double value);

}  // namespace idefics
