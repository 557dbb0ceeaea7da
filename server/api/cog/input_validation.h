// SPDX-License-Identifier: Apache-2.0
// A request's `input` object against the input table: coglet's rules and messages
// (docs/cog-api.md#input-validation). Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "server/api/cog/input_table.h"
#include "server/jobs/rejection.h"

namespace idefics {

struct ValidatedInput {
  nlohmann::json values;  // unknown keys removed, integers as integers, defaults filled in
  std::vector<std::string> dropped;  // the unknown keys
  std::vector<FieldError> errors;    // empty: `values` is good
};

ValidatedInput ValidateInput(const nlohmann::json& input, InputOrigin origin);

// All errors as one sentence, for the command line.
std::string ErrorSentence(const std::vector<FieldError>& errors);

// "http://", "https://", "data:" (any case of letters); "file:" on the command line.
bool IsImageSource(const std::string& text, InputOrigin origin);

}  // namespace idefics
