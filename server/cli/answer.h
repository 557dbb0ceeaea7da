// SPDX-License-Identifier: Apache-2.0
// One input answered without a server, for `predict`: the same task as HTTP's, run here. Thread
// safe.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "server/jobs/task.h"

namespace idefics {

struct AnswerOptions {
  TaskLimits limits;
  std::optional<int> num_logprobs;
};

struct Answer {
  TaskOutcome outcome;
  std::string output;  // what was shown, concatenated
};

// `input`: validated values of the input table. `on_text`: pieces of the output, in order, on the
// calling thread.
Answer AnswerInput(const nlohmann::json& input, Predictor& predictor, ImageSource& images,
                   const AnswerOptions& options, std::stop_token stop,
                   const std::function<void(std::string_view)>& on_text);

// {"status":…, "output":…, "error":…, "metrics":{…}}; with details also token ids and logprobs.
nlohmann::json AnswerObject(const Answer& answer, bool details);

}  // namespace idefics
