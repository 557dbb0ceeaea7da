// SPDX-License-Identifier: Apache-2.0
// The bodies of /v1/chat/completions and /v1/completions, field by field
// (docs/openai-api.md#fields). What would change the answer and is not done here is refused;
// unknown fields are ignored. Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "predictor/predictor.h"
#include "server/api/openai/openai_error.h"

namespace idefics {

struct OpenAiOptions {
  std::vector<std::string> served_models;  // the first is shown in answers; "*" accepts all names
  double default_temperature = 1;
  int default_max_tokens = 0;  // of a chat that names none; 0: what is left of the context
  int max_queued = -1;      // requests of this API that may wait for a slot; -1: four for each slot
  std::string fingerprint;  // changes with what could change answers
};

// What the fields are judged by.
struct ModelFacts {
  const ModelInfo& info;
  const Tokenizer& tokenizer;
  const OpenAiOptions& options;
};

struct CompletionRequest {
  enum class Form { kChat, kText, kResponse };

  Form form = Form::kChat;
  std::vector<GenerateRequest> prompts;   // one, of a chat
  std::vector<std::string> echoes;        // kText: written before the answers to each prompt
  bool scores_prompt = false;             // the tokens of these come with their log probabilities
  std::vector<std::string> image_params;  // kChat: which field named each image
  int num_choices = 1;                    // answers to each prompt
  std::optional<int> top_logprobs;        // set: log probabilities are part of the answer
  bool stream = false;
  bool include_usage = false;     // a last chunk says what the stream has cost
  bool continuous_usage = false;  // every chunk does
  bool names_service_tier = false;
};

// Why its job failed, with the field that is to blame.
OpenAiError FailureOf(const Status& failure, const CompletionRequest& request);

std::variant<CompletionRequest, OpenAiError> ReadChatRequest(const nlohmann::json& body,
                                                             const ModelFacts& model);
std::variant<CompletionRequest, OpenAiError> ReadTextRequest(const nlohmann::json& body,
                                                             const ModelFacts& model);

}  // namespace idefics
