// SPDX-License-Identifier: Apache-2.0
// Header values that are lists. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace idefics {

// The items between any of `separators`, without white space at their ends; empty ones left out.
std::vector<std::string_view> SplitHeaderList(std::string_view value, std::string_view separators);

}  // namespace idefics
