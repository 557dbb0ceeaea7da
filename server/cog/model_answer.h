// SPDX-License-Identifier: Apache-2.0
// A validated input in, an answer out: plan, fetch, generate, post-process. HTTP and the command
// line both end here. Thread safe.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <string>
#include <string_view>

#include "predictor/predictor.h"
#include "server/cog/input_table.h"
#include "server/fetch/image_source.h"

namespace idefics {

struct AnswerOptions {
  int max_images = 64;
  int num_logprobs = 0;
  InputOrigin origin = InputOrigin::kHttp;
};

struct ModelAnswer {
  Status status;
  std::string output;  // what was emitted, concatenated
  GenerateResult result;
  double fetch_s = 0;
};

// `emit`: pieces of the output, in order, on the calling thread.
ModelAnswer AnswerInput(const nlohmann::json& input, Predictor& predictor, ImageSource& images,
                        const AnswerOptions& options, std::stop_token stop,
                        const std::function<void(std::string_view)>& emit);

// input_token_count, output_token_count, image_count, fetch_time, time_to_first_token, …
nlohmann::json AnswerMetrics(const ModelAnswer& answer);

}  // namespace idefics
