// SPDX-License-Identifier: Apache-2.0
// One line of an OpenAI batch file: {"custom_id", "method", "url", "body"}. Thread safe.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "server/api/openai/offline_answer.h"

namespace idefics {

// Whether a line of a JSONL file, or of its answers, is in this form.
bool IsBatchLine(const nlohmann::json& line);

// {"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}; what no route
// could answer has an error in the place of the response. nullopt: `stop` was obeyed.
std::optional<nlohmann::json> AnswerBatchLine(const nlohmann::json& line,
                                              const OfflineSetting& setting,
                                              const std::stop_token& stop);

// Whether a row that AnswerBatchLine made says that it failed.
bool BatchRowFailed(const nlohmann::json& row);

}  // namespace idefics
