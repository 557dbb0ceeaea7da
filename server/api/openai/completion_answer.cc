// SPDX-License-Identifier: Apache-2.0
#include "server/api/openai/completion_answer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "common/random_id.h"
#include "server/api/token_text.h"

namespace idefics {
namespace {

using nlohmann::json;

const char* OpenAiReasonName(FinishReason reason) {
  return reason == FinishReason::kLength ? "length" : "stop";
}

// Characters, as a client counts them in the text.
size_t NumCharacters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
  }));
}

json BytesOf(std::string_view text) {
  json bytes = json::array();
  for (const char byte : text) bytes.push_back(static_cast<unsigned char>(byte));
  return bytes;
}

void Append(const TokenDetails& more, TokenDetails* all) {
  all->ids.insert(all->ids.end(), more.ids.begin(), more.ids.end());
  all->logprobs.insert(all->logprobs.end(), more.logprobs.begin(), more.logprobs.end());
}

}  // namespace

AnswerHead MakeAnswerHead(const CompletionRequest& wanted, const OpenAiOptions& options) {
  const bool is_chat = wanted.form == CompletionRequest::Form::kChat;
  AnswerHead head;
  head.form = wanted.form;
  head.id = (is_chat ? "chatcmpl-" : "cmpl-") + RandomHex();
  head.created = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  head.model = options.served_models.front();
  head.fingerprint = options.fingerprint;
  head.top_logprobs = wanted.top_logprobs;
  head.scores_prompt = wanted.scores_prompt;
  head.names_service_tier = wanted.names_service_tier;
  return head;
}

json UsageObject(const JobUsage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details",
           {{"cached_tokens", usage.cached_tokens}, {"image_tokens", usage.image_tokens}}}};
}

json AnswerWriter::TokenObject(int32_t id, float logprob) const {
  return {{"token", TokenText(tokenizer_, id)},
          {"logprob", FiniteLogprob(logprob)},
          {"bytes", BytesOf(tokenizer_.Bytes(id))}};
}

json AnswerWriter::ChatLogprobs(const TokenDetails& tokens) const {
  json content = json::array();
  for (size_t i = 0; i < tokens.ids.size() && i < tokens.logprobs.size(); ++i) {
    json entry = TokenObject(tokens.ids[i], tokens.logprobs[i].logprob);
    entry["top_logprobs"] = json::array();
    for (const auto& [id, logprob] : tokens.logprobs[i].top) {
      entry["top_logprobs"].push_back(TokenObject(id, logprob));
    }
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

// Characters of a token in the text. A prompt's text does not show its special tokens, and not the
// space that the tokenizer puts before its first word.
size_t AnswerWriter::NumShown(int32_t id, const std::string& text, size_t offset) const {
  if (!head_.scores_prompt) return NumCharacters(text);
  if (tokenizer_.IsSpecial(id)) return 0;
  return NumCharacters(text) - (offset == 0 && text.starts_with(' ') ? 1 : 0);
}

json AnswerWriter::TextLogprobs(const TokenDetails& tokens, size_t* offset) const {
  json out = {{"tokens", json::array()},
              {"token_logprobs", json::array()},
              {"top_logprobs", json::array()},
              {"text_offset", json::array()}};
  for (size_t i = 0; i < tokens.ids.size() && i < tokens.logprobs.size(); ++i) {
    const std::string text = TokenText(tokenizer_, tokens.ids[i]);
    const TokenLogprobs& token = tokens.logprobs[i];
    const bool follows = !std::isnan(token.logprob);
    json top = json::object();
    for (const auto& [id, logprob] : token.top)
      top[TokenText(tokenizer_, id)] = FiniteLogprob(logprob);
    top[text] = FiniteLogprob(token.logprob);
    out["tokens"].push_back(text);
    out["token_logprobs"].push_back(follows ? json(FiniteLogprob(token.logprob)) : json());
    out["top_logprobs"].push_back(follows ? std::move(top) : json());
    out["text_offset"].push_back(*offset);
    *offset += NumShown(tokens.ids[i], text, *offset);
  }
  return out;
}

json AnswerWriter::Logprobs(const TokenDetails& tokens, size_t* offset) const {
  if (!head_.top_logprobs) return nullptr;
  return is_chat() ? ChatLogprobs(tokens) : TextLogprobs(tokens, offset);
}

json AnswerWriter::Object(const char* kind, json choices) const {
  json object = {{"id", head_.id},
                 {"object", kind},
                 {"created", head_.created},
                 {"model", head_.model},
                 {"system_fingerprint", head_.fingerprint},
                 {"choices", std::move(choices)}};
  if (head_.names_service_tier) object["service_tier"] = "default";
  return object;
}

json AnswerWriter::Choice(int index, std::string text, json logprobs, FinishReason reason) const {
  json choice = {{"index", index},
                 {"logprobs", std::move(logprobs)},
                 {"finish_reason", OpenAiReasonName(reason)}};
  if (is_chat()) {
    choice["message"] = {{"role", "assistant"}, {"content", std::move(text)}, {"refusal", nullptr}};
  } else {
    choice["text"] = std::move(text);
  }
  return choice;
}

json AnswerWriter::Whole(std::span<const JobView> views, std::span<const std::string> echoes) {
  json choices = json::array();
  JobUsage usage;
  for (size_t i = 0; i < views.size(); ++i) {
    const JobView& view = views[i];
    usage.prompt_tokens += view.usage.prompt_tokens;
    usage.cached_tokens += view.usage.cached_tokens;
    usage.image_tokens += view.usage.image_tokens;
    usage.completion_tokens += view.usage.completion_tokens;
    std::vector<JobChoiceEnded> ends = view.choice_ends;
    std::sort(ends.begin(), ends.end(),
              [](const auto& a, const auto& b) { return a.choice < b.choice; });
    for (const JobChoiceEnded& end : ends) {
      std::string text = echoes.empty() ? "" : echoes[i];
      size_t offset = head_.scores_prompt ? 0 : NumCharacters(text);
      TokenDetails tokens;
      for (const JobText& piece : view.pieces) {
        if (piece.choice != end.choice) continue;
        text += piece.piece;
        if (piece.tokens != nullptr) Append(*piece.tokens, &tokens);
      }
      choices.push_back(Choice(static_cast<int>(choices.size()), std::move(text),
                               Logprobs(tokens, &offset), end.reason));
    }
  }
  json object = Object(is_chat() ? "chat.completion" : "text_completion", std::move(choices));
  object["usage"] = UsageObject(usage);
  return object;
}

size_t& AnswerWriter::OffsetOf(int choice) {
  if (offsets_.size() <= static_cast<size_t>(choice)) offsets_.resize(choice + 1);
  return offsets_[choice];
}

json AnswerWriter::Chunk(json choice) const {
  return Object(is_chat() ? "chat.completion.chunk" : "text_completion",
                json::array({std::move(choice)}));
}

json AnswerWriter::FirstChunk(int choice, const std::string& echo) {
  OffsetOf(choice) = head_.scores_prompt ? 0 : NumCharacters(echo);
  json first = {{"index", choice}, {"logprobs", nullptr}, {"finish_reason", nullptr}};
  if (is_chat()) {
    first["delta"] = {{"role", "assistant"}, {"content", ""}};
  } else {
    first["text"] = echo;
  }
  return Chunk(std::move(first));
}

std::optional<json> AnswerWriter::TextChunk(const JobText& text) {
  const bool has_tokens = text.tokens != nullptr && !text.tokens->ids.empty();
  if (text.piece.empty() && !(head_.top_logprobs && has_tokens)) return std::nullopt;
  static const TokenDetails kNone;
  json choice = {{"index", text.choice},
                 {"logprobs", Logprobs(has_tokens ? *text.tokens : kNone, &OffsetOf(text.choice))},
                 {"finish_reason", nullptr}};
  if (is_chat()) {
    choice["delta"] = {{"content", text.piece}};
  } else {
    choice["text"] = text.piece;
  }
  return Chunk(std::move(choice));
}

json AnswerWriter::EndChunk(const JobChoiceEnded& end) {
  json last = {{"index", end.choice},
               {"logprobs", nullptr},
               {"finish_reason", OpenAiReasonName(end.reason)}};
  if (is_chat()) {
    last["delta"] = json::object();
  } else {
    last["text"] = "";
  }
  return Chunk(std::move(last));
}

json AnswerWriter::UsageChunk(const JobUsage& usage) {
  json object = Object(is_chat() ? "chat.completion.chunk" : "text_completion", json::array());
  object["usage"] = UsageObject(usage);
  return object;
}

}  // namespace idefics
