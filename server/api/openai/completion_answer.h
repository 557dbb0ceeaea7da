// SPDX-License-Identifier: Apache-2.0
// What a job has written, as OpenAI's objects (docs/openai-api.md#answers): the whole answer, or
// the chunks of a stream. Pure.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "predictor/text/tokenizer.h"
#include "server/api/openai/completion_request.h"
#include "server/jobs/event_log.h"

namespace idefics {

// What all objects of one answer share.
struct AnswerHead {
  CompletionRequest::Form form = CompletionRequest::Form::kChat;
  std::string id;
  int64_t created = 0;  // seconds since 1970
  std::string model;
  std::string fingerprint;
  std::optional<int> top_logprobs;
  bool scores_prompt = false;  // pieces begin with the prompt's tokens
  bool names_service_tier = false;
};

// With a new id.
AnswerHead MakeAnswerHead(const CompletionRequest& wanted, const OpenAiOptions& options);

// {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"}
nlohmann::json UsageObject(const JobUsage& usage);

class AnswerWriter {
 public:
  // Both must outlive this.
  AnswerWriter(const AnswerHead& head, const Tokenizer& tokenizer)
      : head_(head), tokenizer_(tokenizer) {}

  // `views`: one for each prompt, ended without a failure. `echoes`: as many, written before
  // answers.
  nlohmann::json Whole(std::span<const JobView> views, std::span<const std::string> echoes);

  // Chunks, without usage. Those of one choice in the order of its events.
  nlohmann::json FirstChunk(int choice, const std::string& echo);
  // nullopt: there is nothing to say.
  std::optional<nlohmann::json> TextChunk(const JobText& text);
  nlohmann::json EndChunk(const JobChoiceEnded& end);
  nlohmann::json UsageChunk(const JobUsage& usage);

 private:
  bool is_chat() const { return head_.form == CompletionRequest::Form::kChat; }
  nlohmann::json Object(const char* kind, nlohmann::json choices) const;
  nlohmann::json Chunk(nlohmann::json choice) const;
  nlohmann::json Choice(int index, std::string text, nlohmann::json logprobs,
                        FinishReason reason) const;
  nlohmann::json Logprobs(const TokenDetails& tokens, size_t* offset) const;
  nlohmann::json ChatLogprobs(const TokenDetails& tokens) const;
  size_t NumShown(int32_t id, const std::string& text, size_t offset) const;
  nlohmann::json TextLogprobs(const TokenDetails& tokens, size_t* offset) const;
  nlohmann::json TokenObject(int32_t id, float logprob) const;
  size_t& OffsetOf(int choice);

  const AnswerHead& head_;
  const Tokenizer& tokenizer_;
  std::vector<size_t> offsets_;  // of a stream: characters written so far, by choice
};

}  // namespace idefics
