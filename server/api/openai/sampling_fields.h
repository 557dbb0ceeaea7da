// SPDX-License-Identifier: Apache-2.0
// The fields that say how tokens are chosen, of every route of this API. Pure.
#pragma once

#include "server/api/field_reader.h"
#include "server/api/openai/completion_request.h"

namespace idefics {

// The most tokens where a request names no number: as many as fit behind the prompt.
inline constexpr int kRestOfContext = 1 << 30;

// Everything but max_tokens and logprobs, which each form spells in its own way.
// REQUIRES: request->sampling.max_new_tokens is set.
void ReadSamplingFields(const ModelFacts& model, FieldReader* fields, GenerateRequest* request);

// Refuses what is not done here and would change the answer.
void RefuseUnsupportedFields(FieldReader* fields);

// `stream`, `stream_options`.
void ReadStreamFields(const nlohmann::json& body, FieldReader* fields, CompletionRequest* out);

}  // namespace idefics
