// SPDX-License-Identifier: Apache-2.0
// The body of /generate and /generate_stream (docs/openai-api.md#text-generation-inference). Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "predictor/predictor.h"
#include "server/api/field_reader.h"

namespace idefics {

struct TgiRequest {
  GenerateRequest request;
  bool stream = false;
  bool details = false;  // the answer names its tokens
  std::string echo;      // written before the text of the answer
  int top_n_tokens = 0;
};

// `streams`: the route does, whatever the body says.
std::variant<TgiRequest, FieldProblem> ReadTgiRequest(const nlohmann::json& body,
                                                      const Predictor& predictor, bool streams);

// "![](URL)" is an image; the rest is text, in which the turns' tokens are special.
std::vector<PromptPiece> SplitInputs(std::string_view inputs);

}  // namespace idefics
