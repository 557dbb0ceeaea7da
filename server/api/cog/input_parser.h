// SPDX-License-Identifier: Apache-2.0
// A validated input -> the task that it asks for. The last place that sees its JSON. Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "server/api/cog/input_table.h"
#include "server/jobs/task.h"

namespace idefics {

// `input`: values of the input table, valid by its schemas, with their defaults (input_validation).
// file: items of `prompt` are images on the command line and text in HTTP. What no schema can say,
// such as an item of `prompt` that is a URL of another scheme, is the task's refusal.
Task ParseInput(const nlohmann::json& input, InputOrigin origin);

}  // namespace idefics
