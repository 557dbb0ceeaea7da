// SPDX-License-Identifier: Apache-2.0
// What is said of an argument that no command takes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace idefics {

// The name of `known` that was most likely meant: up to two letters changed, missing or too many,
// or an end that is missing or too much. "" if there is none.
std::string NearestName(std::string_view name, const std::vector<std::string>& known);

}  // namespace idefics
