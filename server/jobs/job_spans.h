// SPDX-License-Identifier: Apache-2.0
// The spans of a job: its own, and those of its parts, made of the times that it noted anyway.
#pragma once

#include "server/jobs/job.h"

namespace idefics {

// What spans and metrics show of a request's sampling; the rest may be long lists.
struct AskedSampling {
  int max_new_tokens = 0;
  int num_choices = 1;
  bool do_sample = false;
  double temperature = 1;
  double top_p = 1;
  int top_k = 0;

  static AskedSampling Of(const SamplingParams& params) {
    return {params.max_new_tokens, params.num_choices, params.do_sample,
            params.temperature,    params.top_p,       params.top_k};
  }
};

// Gives them to the sink of the job's origin, if there is one. `sampling`: what was asked for.
// Names of attributes: OpenTelemetry's GenAI conventions, and ours. Nothing of prompts and answers.
void AddJobSpans(const Job& job, const AskedSampling& sampling, const TaskOutcome& outcome,
                 const Status& status);

}  // namespace idefics
