// SPDX-License-Identifier: Apache-2.0
// The server as a process: the object graph of one server, its start, its signals, its end.
#pragma once

#include <cstdint>

#include "common/flags.h"
#include "server/jobs/job_service.h"

namespace idefics {

// Serves until a signal or POST /shutdown ends it; running jobs may end first. Returns the exit
// code. `loader` makes the predictor while the port is open already. Requests hold `memory_bytes`
// at most, without the images that are being decoded.
int Serve(const FlagValues& flags, uint64_t memory_bytes, JobService::Loader loader);

}  // namespace idefics
