// SPDX-License-Identifier: Apache-2.0
// The spans of a job: its own, and those of its parts, made of the times that it noted anyway.
#pragma once

#include "server/jobs/job.h"

namespace idefics {

// Gives them to the sink of the job's origin, if there is one. `sampling`: what was asked for.
// Names of attributes: OpenTelemetry's GenAI conventions, and ours. Nothing of prompts and answers.
void AddJobSpans(const Job& job, const SamplingParams& sampling, const TaskOutcome& outcome,
                 const Status& status);

}  // namespace idefics
