// SPDX-License-Identifier: Apache-2.0
// The end tokens of requests that name none (docs/model.md#end-tokens). Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "weights/manifest.h"

namespace idefics {

// For `prompt` requests: the eos_token_id list of the checkpoint's generation config, or </s> where
// that is empty, and <end_of_utterance> where the model has it. Ascending, each once.
std::vector<int32_t> PromptEosTokenIds(const BundleManifest& manifest);

// For `image` and `text` requests: </s>, and <end_of_utterance> where the model has it, as in the
// original predictor. Ascending, each once.
std::vector<int32_t> QuestionEosTokenIds(const BundleManifest& manifest);

}  // namespace idefics
