// SPDX-License-Identifier: Apache-2.0
// The body of /v1/responses -> the chat that it means (docs/openai-api.md#responses). Nothing is
// kept between requests: what would need that is refused. Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <variant>

#include "server/api/openai/completion_request.h"

namespace idefics {

std::variant<CompletionRequest, OpenAiError> ReadResponseRequest(const nlohmann::json& body,
                                                                 const ModelFacts& model);

}  // namespace idefics
