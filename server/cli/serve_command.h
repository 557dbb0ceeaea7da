// SPDX-License-Identifier: Apache-2.0
// `idefics-server serve`: the model of --model behind HTTP. Returns the exit code.
#pragma once

#include "server/cli/command_line.h"

namespace idefics {

int RunServe(const CommandLine& command);

}  // namespace idefics
