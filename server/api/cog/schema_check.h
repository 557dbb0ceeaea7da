// SPDX-License-Identifier: Apache-2.0
// The part of JSON Schema that the input table uses, with the messages of coglet's validator
// (docs/cog-api.md#input-validation). Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace idefics {

struct SchemaViolation {
  std::string pointer;  // below the checked value, without the leading slash: "", "0", "1/3"
  std::string message;
};

// What is wrong beyond so many is not looked for: an answer is no multiple of its request.
inline constexpr size_t kMaxViolations = 100;

// At most kMaxViolations, and those of one more item. Keywords: type, enum, minimum, maximum,
// minLength, minItems, maxItems, items, anyOf. 16.0 is an integer, true is not a number. Numbers
// compare exactly.
std::vector<SchemaViolation> CheckSchema(const nlohmann::json& value, const nlohmann::json& schema);

}  // namespace idefics
