// SPDX-License-Identifier: Apache-2.0
// `idefics-server predict`: one input to the terminal, or a JSONL file to another. Returns the exit
// code: 0, 1 when a single prediction failed, 2 for unusable arguments, 130 after an interrupt.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/status.h"
#include "server/cli/command_line.h"

namespace idefics {

int RunPredict(const CommandLine& command);

// -i NAME=VALUE … -> the input object; files become file: references with absolute paths.
Result<nlohmann::json> InputFromArguments(const std::vector<std::string>& arguments);

}  // namespace idefics
