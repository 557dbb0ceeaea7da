// SPDX-License-Identifier: Apache-2.0
// The OpenAPI document (docs/cog-api.md#openapi-document), made from the input table. Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "common/version.h"

namespace idefics {

// What a prediction's `output` is: one string, or a list of pieces (ConcatenateIterator).
enum class OutputKind { kString, kList };

nlohmann::json OpenApiDocument(OutputKind output);

}  // namespace idefics
