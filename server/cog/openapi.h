// SPDX-License-Identifier: Apache-2.0
// The OpenAPI document (cog-contract.md section 6), made from the input table. Pure.
#pragma once

#include <nlohmann/json.hpp>

#include "common/version.h"

namespace idefics {

// What a prediction's `output` is: one string, or a list of pieces (ConcatenateIterator).
enum class OutputKind { kString, kStream };

nlohmann::json OpenApiDocument(OutputKind output);

}  // namespace idefics
