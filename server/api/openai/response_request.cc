// SPDX-License-Identifier: Apache-2.0
#include "server/api/openai/response_request.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "server/api/field_reader.h"

namespace idefics {
namespace {

using nlohmann::json;

void RefuseMemory(FieldReader* fields) {
  constexpr const char* kNothingIsKept =
      "this server keeps nothing between requests: send the whole input";
  fields->Refuse("previous_response_id", kNothingIsKept);
  fields->Refuse("conversation", kNothingIsKept);
  fields->Refuse("prompt", "prompt templates are not supported: send input");
  bool background = false;
  fields->Bool("background", &background);
  if (background) fields->Fail("background", kNothingIsKept, "unsupported_value");
  const json* truncation = fields->Find("truncation");
  if (truncation != nullptr && !IsText(*truncation, "disabled")) {
    fields->Fail("truncation", "truncation must be disabled: shorten the input",
                 "unsupported_value");
  }
}

// Functions are taken, and never called; what runs on a server is refused.
void RefuseTools(FieldReader* fields) {
  const json* tools = fields->Find("tools");
  if (tools == nullptr) return;
  if (!tools->is_array()) {
    fields->Fail("tools", "tools must be a list");
    return;
  }
  for (size_t i = 0; i < tools->size(); ++i) {
    const json& tool = (*tools)[i];
    if (tool.is_object() && IsText(tool.value("type", json()), "function")) continue;
    fields->Fail("tools[" + std::to_string(i) + "].type", "this server runs no tools",
                 "unsupported_value");
    return;
  }
}

void RefuseFormats(FieldReader* fields) {
  const json* text = fields->Find("text");
  if (text == nullptr) return;
  const json format = text->is_object() ? text->value("format", json()) : json("");
  const bool plain =
      format.is_null() || (format.is_object() && IsText(format.value("type", json()), "text"));
  if (!plain) {
    fields->Fail("text.format",
                 "text.format must be {\"type\": \"text\"}: answers cannot be guided",
                 "unsupported_value");
  }
}

// The messages of a chat; items that are none are refused.
json Messages(FieldReader* fields) {
  json messages = json::array();
  std::string instructions;
  if (fields->Text("instructions", &instructions)) {
    messages.push_back({{"role", "system"}, {"content", instructions}});
  }
  const json* input = fields->Find("input");
  if (input == nullptr) {
    fields->Fail("input", "input is missing");
  } else if (input->is_string()) {
    messages.push_back({{"role", "user"}, {"content", *input}});
  } else if (!input->is_array()) {
    fields->Fail("input", std::string("input is ") + JsonKind(*input) +
                              ", it must be a string or a list of messages");
  } else {
    for (size_t i = 0; i < input->size(); ++i) {
      const json& item = (*input)[i];
      const json type = item.is_object() ? item.value("type", json("message")) : json("message");
      if (!IsText(type, "message")) {
        fields->Fail("input[" + std::to_string(i) + "].type", "items of input must be messages",
                     "unsupported_value");
        break;
      }
      messages.push_back(item);
    }
  }
  return messages;
}

// What a chat calls otherwise, or is the same in both.
json ChatBody(const json& body, json messages) {
  json chat = {{"messages", std::move(messages)}};
  for (const auto& [name, value] : body.items()) {
    const bool own = name == "input" || name == "instructions" || name == "max_output_tokens" ||
                     name == "text" || name == "tools" || name == "stream_options" ||
                     name == "truncation" || name == "top_logprobs" || name == "prompt" ||
                     name == "messages" || name == "max_tokens" || name == "n";
    if (!own) chat[name] = value;
  }
  if (const auto most = body.find("max_output_tokens"); most != body.end()) {
    chat["max_completion_tokens"] = *most;
  }
  return chat;
}

// "messages[1].content" -> "input[0].content", where instructions were the first message.
std::string InputParam(std::string param, bool has_instructions) {
  constexpr std::string_view kMessages = "messages";
  if (param == "max_completion_tokens") return "max_output_tokens";
  if (!param.starts_with(kMessages)) return param;
  param.replace(0, kMessages.size(), "input");
  const size_t open = param.find('[');
  if (!has_instructions || open == std::string::npos) return param;
  const size_t close = param.find(']', open);
  const int index = std::stoi(param.substr(open + 1, close - open - 1)) - 1;
  if (index < 0) return "instructions";
  return param.substr(0, open + 1) + std::to_string(index) + param.substr(close);
}

}  // namespace

std::variant<CompletionRequest, OpenAiError> ReadResponseRequest(const json& body,
                                                                 const ModelFacts& model) {
  FieldReader fields(body, "");
  RefuseMemory(&fields);
  RefuseTools(&fields);
  RefuseFormats(&fields);
  json messages = Messages(&fields);
  if (fields.failed()) return InvalidField(*fields.error());
  const bool has_instructions = fields.Find("instructions") != nullptr;
  auto read = ReadChatRequest(ChatBody(body, std::move(messages)), model);
  if (auto* error = std::get_if<OpenAiError>(&read)) {
    error->param = InputParam(std::move(error->param), has_instructions);
    return std::move(*error);
  }
  auto& out = std::get<CompletionRequest>(read);
  out.form = CompletionRequest::Form::kResponse;
  for (std::string& param : out.image_params)
    param = InputParam(std::move(param), has_instructions);
  return std::move(out);
}

}  // namespace idefics
