// SPDX-License-Identifier: Apache-2.0
// By which API a request came. Jobs know the names alone: what is counted has them as a label.
#pragma once

#include <array>
#include <cstddef>

namespace idefics {

enum class RequestApi { kCog, kReplicate, kOpenAi, kTgi, kVertex };

inline constexpr std::array kRequestApiNames = {"cog", "replicate", "openai", "tgi", "vertex"};
inline constexpr size_t kNumRequestApis = kRequestApiNames.size();

}  // namespace idefics
