// SPDX-License-Identifier: Apache-2.0
// `idefics-server health` and `idefics-server probe`: what a server on this machine says of itself,
// for the health checks of containers, which have no curl.
#pragma once

#include <string>

#include "common/flags.h"

namespace idefics {

// Prints the status that /health-check tells, or why there is none. 0: READY or BUSY; 1: any other,
// or no answer.
int RunHealth(const FlagValues& flags);

// Prints the status and the first line of an answer, or why there is none. 0: it is 2xx. `url`: a
// URL, a path on the server that the flags name, or "" for its /readyz.
int RunProbe(const FlagValues& flags, const std::string& url);

}  // namespace idefics
