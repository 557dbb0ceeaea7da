// SPDX-License-Identifier: Apache-2.0
// A request's `input` object against the input table: coglet's rules and messages
// (cog-contract.md 5.1, 5.2, 11). Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "server/cog/input_table.h"

namespace idefics {

// One entry of a 422 body: {"loc":["body","input",FIELD],"msg":…,"type":…}.
struct InputError {
  std::string field;  // "image", "prompt/0", "__root__"
  std::string message;
  std::string type = "value_error";
};

struct ValidatedInput {
  nlohmann::json values;  // unknown keys removed, integers as integers, defaults filled in
  std::vector<std::string> dropped;  // the unknown keys
  std::vector<InputError> errors;    // empty: `values` is good
};

ValidatedInput ValidateInput(const nlohmann::json& input, InputOrigin origin);

// {"detail":[…]}
nlohmann::json ErrorBody(const std::vector<InputError>& errors);

// All errors as one sentence, for the command line.
std::string ErrorSentence(const std::vector<InputError>& errors);

// "http://", "https://", "data:" (any case of letters); "file:" on the command line.
bool IsImageSource(const std::string& text, InputOrigin origin);

}  // namespace idefics
