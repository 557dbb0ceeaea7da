// SPDX-License-Identifier: Apache-2.0
// A completion without a server: what a POST of its body would answer, run on the calling thread.
// For batch files (docs/openai-api.md#batch-files). Thread safe.
#pragma once

#include <nlohmann/json.hpp>
#include <stop_token>

#include "server/api/openai/completion_request.h"
#include "server/jobs/task.h"

namespace idefics {

struct OfflineAnswer {
  int status = 200;  // as HTTP's
  nlohmann::json body;
  bool canceled = false;  // `stop` was obeyed: there is no answer
};

// Where and how it is run. All must outlive the call.
struct OfflineSetting {
  Predictor& predictor;
  ImageSource& images;
  TaskLimits limits;
  const OpenAiOptions& options;
};

OfflineAnswer AnswerOffline(CompletionRequest::Form form, const nlohmann::json& body,
                            const OfflineSetting& setting, const std::stop_token& stop);

}  // namespace idefics
