// SPDX-License-Identifier: Apache-2.0
#include "server/api/openai/chat_prompt.h"

#include <optional>
#include <utility>

#include "common/utf8.h"
#include "server/api/field_reader.h"
#include "server/fetch/data_uri.h"
#include "server/fetch/url_policy.h"

namespace idefics {
namespace {

using nlohmann::json;
using Role = ChatMessage::Role;

constexpr size_t kMaxMessages = 10'000;
constexpr size_t kShownBytes = 40;

std::string Quoted(const std::string& text) { return "'" + Abbreviate(text, kShownBytes) + "'"; }

const char* LabelOf(Role role) { return role == Role::kUser ? "User:" : "Assistant:"; }

// Reads one message; the sticky error of the reader says what is wrong.
class MessageReader {
 public:
  MessageReader(const json& message, const std::string& path) : fields_(message, path) {}

  std::variant<ChatMessage, FieldProblem> Read() {
    ReadRole();
    if (!fields_.failed()) ReadContent();
    if (fields_.failed()) return *fields_.error();
    return std::move(out_);
  }

 private:
  void ReadRole() {
    std::string role;
    if (!fields_.Text("role", &role)) {
      if (!fields_.failed()) fields_.Fail("role", "a message has no role");
      return;
    }
    if (role == "system" || role == "developer") {
      out_.role = Role::kSystem;
    } else if (role == "user") {
      out_.role = Role::kUser;
    } else if (role == "assistant") {
      out_.role = Role::kAssistant;
    } else {
      const bool known = role == "tool" || role == "function";
      fields_.Fail("role",
                   "role is " + Quoted(role) +
                       ", it must be system, developer, user or "
                       "assistant" +
                       (known ? ": this model calls no tools" : ""),
                   known ? "unsupported_value" : "");
    }
  }

  void ReadContent() {
    const json* content = fields_.Find("content");
    if (content == nullptr) {
      // An assistant's turn may have been only a call of a tool.
      if (out_.role != Role::kAssistant) fields_.Fail("content", "a message has no content");
      return;
    }
    if (content->is_string()) {
      out_.parts.emplace_back(content->get<std::string>());
    } else if (content->is_array()) {
      for (size_t i = 0; i < content->size() && !fields_.failed(); ++i) {
        ReadPart((*content)[i], "content[" + std::to_string(i) + "]");
      }
    } else {
      fields_.Fail("content", std::string("content is ") + JsonKind(*content) +
                                  ", it must be a string or a list of parts");
    }
  }

  void ReadPart(const json& part, const std::string& name) {
    if (part.is_string()) {
      out_.parts.emplace_back(part.get<std::string>());
      return;
    }
    if (!part.is_object()) {
      fields_.Fail(name, std::string("a part is ") + JsonKind(part) + ", it must be an object");
      return;
    }
    const json type = part.value("type", json());
    if (!type.is_string()) {
      fields_.Fail(name + ".type", "a part has no type: text or image_url");
      return;
    }
    const auto& kind = type.get_ref<const std::string&>();
    if (kind == "text" || kind == "input_text" || kind == "output_text") {
      ReadText(part, name, "text");
    } else if (kind == "refusal") {
      ReadText(part, name, "refusal");
    } else if (kind == "image_url" || kind == "input_image") {
      ReadImage(part, name);
    } else {
      fields_.Fail(name + ".type",
                   "the type of a part is " + Quoted(kind) + ", it must be text or image_url",
                   "unsupported_value");
    }
  }

  void ReadText(const json& part, const std::string& name, const char* member) {
    const auto text = part.find(member);
    if (text == part.end() || !text->is_string()) {
      fields_.Fail(name + "." + member, std::string(member) + " of a part must be a string");
      return;
    }
    out_.parts.emplace_back(text->get<std::string>());
  }

  // {"image_url": {"url", "detail"}}, or the URL itself, as in the Responses form.
  void ReadImage(const json& part, const std::string& name) {
    const auto image = part.find("image_url");
    const std::string field = name + ".image_url";
    if (image == part.end() || !(image->is_object() || image->is_string())) {
      fields_.Fail(field, "image_url must be an object with a url");
      return;
    }
    if (image->is_string()) {
      AddImage(image->get_ref<const std::string&>(), field);
      return;
    }
    const auto url = image->find("url");
    if (url == image->end() || !url->is_string()) {
      fields_.Fail(field + ".url", "url of an image must be a string");
      return;
    }
    if (CheckDetail(*image, field)) AddImage(url->get_ref<const std::string&>(), field + ".url");
  }

  // Every image is seen at the model's one size.
  bool CheckDetail(const json& image, const std::string& field) {
    const auto detail = image.find("detail");
    if (detail == image.end() || detail->is_null()) return true;
    for (const char* known : {"auto", "low", "high", "original"}) {
      if (IsText(*detail, known)) return true;
    }
    return fields_.Fail(field + ".detail", "detail must be auto, low, high or original");
  }

  void AddImage(const std::string& url, const std::string& field) {
    const Status usable = IsDataUri(url) ? Status::Ok() : CheckUrl(url);
    if (!usable.ok()) {
      fields_.Fail(field, usable.message(), "invalid_image_url");
      return;
    }
    out_.parts.emplace_back(ChatImage{url, fields_.PathOf(field)});
  }

  FieldReader fields_;
  ChatMessage out_;
};

// Joins texts that stand side by side and cuts them at images.
class PromptWriter {
 public:
  void Write(std::string_view text) { text_ += text; }

  void WriteImage(const std::string& url) {
    Cut();
    pieces_.emplace_back(PromptImage{url, ImagePolicy::kUprightAlphaDropped, nullptr});
  }

  void WriteEndOfUtterance() {
    Cut();
    pieces_.emplace_back(PromptText{std::string(kEndOfUtteranceLiteral), SpecialText::kTurns});
  }

  void Cut() {
    if (!text_.empty()) pieces_.emplace_back(PromptText{std::move(text_), SpecialText::kNone});
    text_.clear();
  }

  std::vector<PromptPiece> Take() {
    Cut();
    return std::move(pieces_);
  }

 private:
  std::string text_;
  std::vector<PromptPiece> pieces_;
};

void WriteMessage(const ChatMessage& message, PromptWriter* writer) {
  const bool labelled = message.role != Role::kSystem;
  if (labelled) writer->Write(LabelOf(message.role));
  bool after_text = false;
  for (size_t i = 0; i < message.parts.size(); ++i) {
    if (const auto* image = std::get_if<ChatImage>(&message.parts[i])) {
      writer->WriteImage(image->url);
      after_text = false;
      continue;
    }
    if (i == 0 && labelled) writer->Write(" ");
    if (after_text) writer->Write("\n");
    writer->Write(std::get<std::string>(message.parts[i]));
    after_text = true;
  }
}

}  // namespace

std::variant<std::vector<ChatMessage>, FieldProblem> ReadMessages(const json& messages) {
  if (!messages.is_array()) {
    return FieldProblem{"messages",
                        std::string("messages is ") + JsonKind(messages) + ", it must be a list"};
  }
  if (messages.empty()) return FieldProblem{"messages", "messages is empty: give at least one"};
  if (messages.size() > kMaxMessages) {
    return FieldProblem{"messages", "messages holds " + std::to_string(messages.size()) +
                                        " messages, the limit is " + std::to_string(kMaxMessages)};
  }
  std::vector<ChatMessage> out;
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string path = "messages[" + std::to_string(i) + "]";
    if (!messages[i].is_object()) {
      return FieldProblem{
          path, std::string("a message is ") + JsonKind(messages[i]) + ", it must be an object"};
    }
    auto read = MessageReader(messages[i], path).Read();
    if (auto* error = std::get_if<FieldProblem>(&read)) return std::move(*error);
    out.push_back(std::get<ChatMessage>(std::move(read)));
  }
  return out;
}

std::vector<PromptPiece> ChatPrompt(const std::vector<ChatMessage>& messages,
                                    const ChatForm& form) {
  PromptWriter writer;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (i > 0) writer.Write("\n");
    WriteMessage(messages[i], &writer);
    const bool goes_on = form.continue_final_message && i + 1 == messages.size();
    const bool ends = form.has_end_of_utterance && messages[i].role != Role::kSystem && !goes_on;
    if (ends) writer.WriteEndOfUtterance();
    // An item of its own: the processor drops the spaces at its ends.
    writer.Cut();
  }
  if (form.add_generation_prompt) writer.Write("\nAssistant:");
  return writer.Take();
}

std::vector<std::string> BaseModelStops() { return {"\nUser:", "\nAssistant:"}; }

std::vector<std::string> ImageParams(const std::vector<ChatMessage>& messages) {
  std::vector<std::string> params;
  for (const ChatMessage& message : messages) {
    for (const ChatPart& part : message.parts) {
      if (const auto* image = std::get_if<ChatImage>(&part)) params.push_back(image->param);
    }
  }
  return params;
}

}  // namespace idefics
