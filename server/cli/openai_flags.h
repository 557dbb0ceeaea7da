// SPDX-License-Identifier: Apache-2.0
// Flags -> OpenAI's API, for `serve` and `predict`.
#pragma once

#include "common/flags.h"
#include "server/api/openai/completion_request.h"

namespace idefics {

OpenAiOptions OpenAiOptionsFromFlags(const FlagValues& flags);

}  // namespace idefics
