// SPDX-License-Identifier: Apache-2.0
// What every route of this API does first: is there a model, and what are the body's fields. Any
// thread.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <variant>

#include "server/api/openai/openai_error.h"
#include "server/http/message.h"
#include "server/jobs/job_service.h"

namespace idefics {

// Why no request is taken now, or nothing.
std::optional<OpenAiError> WhyNotReady(const JobService& service);

// The body, a JSON object. Then the predictor has a tokenizer.
std::variant<nlohmann::json, OpenAiError> ReadFields(const JobService& service,
                                                     HttpRequest& request);

}  // namespace idefics
