// SPDX-License-Identifier: Apache-2.0
// `idefics-server health`: what a server on this machine says of itself, for a container's health
// check.
#pragma once

#include "common/flags.h"

namespace idefics {

// Prints the status that /health-check tells, or why there is none. 0: READY or BUSY; 1: any other,
// or no answer.
int RunHealth(const FlagValues& flags);

}  // namespace idefics
