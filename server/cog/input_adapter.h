// SPDX-License-Identifier: Apache-2.0
// A validated input -> what the predictor is asked. The last place that sees JSON on the way in.
// Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "predictor/predictor.h"
#include "server/cog/input_table.h"
#include "server/fetch/image_source.h"

namespace idefics {

// What of the generated text is the answer; README.md has the original's quirks.
enum class AnswerText {
  kStripped,  // image + text: the new text, white space at both ends dropped
  kNew,       // prompt: the new text as it is
  kFull,      // return_full_text
};

struct PlannedRequest {
  // Image parts hold no bytes yet: their references are in `images`, in order.
  GenerateRequest request;
  std::vector<size_t> image_parts;  // indices into request.prompt
  std::vector<std::string> images;
  AnswerText answer = AnswerText::kNew;
};

// file: items of `prompt` are images on the command line and text in HTTP.
// kInvalidInput: what the schema cannot say: an id outside the vocabulary, temperature 0 with
// sampling, beams with sampling, too many images, a URL that is none.
Result<PlannedRequest> PlanRequest(const nlohmann::json& input, const ModelInfo& info,
                                   InputOrigin origin, int max_images);

// Puts the files into the prompt. REQUIRES: one for each reference.
void AttachImages(const std::vector<ImageBytes>& files, PlannedRequest* plan);

}  // namespace idefics
