// SPDX-License-Identifier: Apache-2.0
// A dialogue in OpenAI's form -> the prompt of an IDEFICS model (docs/openai-api.md#prompt). Two
// steps: the messages are read and judged, then written as the model was trained to read them.
// Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <variant>
#include <vector>

#include "predictor/types.h"
#include "server/api/field_reader.h"

namespace idefics {

struct ChatImage {
  std::string url;
  std::string param;  // the field that named it: "messages[0].content[1].image_url.url"
};
using ChatPart = std::variant<std::string, ChatImage>;

struct ChatMessage {
  enum class Role { kSystem, kUser, kAssistant };
  Role role = Role::kUser;
  std::vector<ChatPart> parts;
};

// `messages`: the field of that name. Refused: unknown roles and parts, and URLs that could never
// be fetched.
std::variant<std::vector<ChatMessage>, FieldProblem> ReadMessages(const nlohmann::json& messages);

struct ChatForm {
  bool has_end_of_utterance = true;     // an instruct model's vocabulary
  bool add_generation_prompt = true;    // a turn of the assistant begins at the end
  bool continue_final_message = false;  // the last message is not ended
};

// Texts of the dialogue are plain: nothing in them is a special token. A message is "User:" or
// "Assistant:" and its parts, ended by <end_of_utterance>; a system's is its text alone.
std::vector<PromptPiece> ChatPrompt(const std::vector<ChatMessage>& messages, const ChatForm& form);

// What a base model, which has no token for the end of a turn, writes when it begins the next one.
std::vector<std::string> BaseModelStops();

// The params of the images in the order of the prompt.
std::vector<std::string> ImageParams(const std::vector<ChatMessage>& messages);

}  // namespace idefics
