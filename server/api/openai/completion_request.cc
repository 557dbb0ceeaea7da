// SPDX-License-Identifier: Apache-2.0
#include "server/api/openai/completion_request.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "server/api/field_reader.h"
#include "server/api/openai/chat_prompt.h"
#include "server/api/openai/sampling_fields.h"

namespace idefics {
namespace {

using nlohmann::json;

constexpr int kMaxTopLogprobs = 20;

bool IsServed(const std::string& asked, const std::vector<std::string>& served) {
  for (const char* any : {"", "default", "tgi"}) {
    if (asked == any) return true;
  }
  return std::any_of(served.begin(), served.end(), [&](const std::string& name) {
    return name == "*" || asked == name || asked == "HuggingFaceM4/" + name;
  });
}

std::optional<OpenAiError> CheckModel(const OpenAiOptions& options, FieldReader* fields) {
  std::string model;
  fields->Text("model", &model);
  if (fields->failed() || IsServed(model, options.served_models)) return std::nullopt;
  return UnknownModel(model, options.served_models.front());
}

// -1 is no limit. Reads the first of the names that is there.
void ReadMaxTokens(std::initializer_list<const char*> names, int most, FieldReader* fields,
                   GenerateRequest* request) {
  request->sampling.max_new_tokens = most;
  request->cut_to_context = true;
  for (const char* name : names) {
    const json* value = fields->Find(name);
    if (value == nullptr) continue;
    if (IntegerOf(*value) == -1) {
      request->sampling.max_new_tokens = kRestOfContext;
    } else {
      fields->Integer(name, 1, std::numeric_limits<int>::max(), &request->sampling.max_new_tokens);
    }
    return;
  }
}

void AskForLogprobs(const std::optional<int>& top, SamplingParams* sampling) {
  if (!top) return;
  sampling->logprobs_mode = LogprobsMode::kRaw;
  sampling->num_logprobs = *top;
}

void ReadChatLogprobs(FieldReader* fields, CompletionRequest* out) {
  bool wanted = false;
  fields->Bool("logprobs", &wanted);
  int top = 0;
  const bool named = fields->Integer("top_logprobs", 0, kMaxTopLogprobs, &top);
  if (named && !wanted) fields->Fail("top_logprobs", "top_logprobs needs \"logprobs\": true");
  if (wanted) out->top_logprobs = top;
}

// The dialogue; the form is the request's and the vocabulary's.
void ReadChat(const ModelFacts& model, FieldReader* fields, CompletionRequest* out) {
  const json* messages = fields->Find("messages");
  if (messages == nullptr) {
    fields->Fail("messages", "messages is missing");
    return;
  }
  auto read = ReadMessages(*messages);
  if (auto* error = std::get_if<FieldProblem>(&read)) {
    fields->Adopt(*error);
    return;
  }
  const auto& dialogue = std::get<std::vector<ChatMessage>>(read);
  ChatForm form;
  form.has_end_of_utterance = model.tokenizer.special().end_of_utterance >= 0;
  fields->Bool("continue_final_message", &form.continue_final_message);
  form.add_generation_prompt = true;
  fields->Bool("add_generation_prompt", &form.add_generation_prompt);
  if (form.continue_final_message && form.add_generation_prompt) {
    fields->Fail("continue_final_message",
                 "continue_final_message needs \"add_generation_prompt\": false");
  }
  if (form.continue_final_message && dialogue.back().role != ChatMessage::Role::kAssistant) {
    fields->Fail("continue_final_message", "the last message is not the assistant's");
  }
  GenerateRequest& request = out->prompts.front();
  request.prompt = ChatPrompt(dialogue, form);
  out->image_params = ImageParams(dialogue);
  if (!form.has_end_of_utterance) {
    for (std::string& stop : BaseModelStops()) request.sampling.stop.push_back(std::move(stop));
  }
}

std::variant<CompletionRequest, OpenAiError> Outcome(const FieldReader& fields,
                                                     CompletionRequest out) {
  if (fields.failed()) return InvalidField(*fields.error());
  return out;
}

// One prompt of text, or of the model's own tokens.
class PromptReader {
 public:
  PromptReader(const ModelFacts& model, FieldReader* fields, CompletionRequest* out)
      : model_(model), fields_(*fields), out_(*out) {}

  void Read() {
    const json* prompt = fields_.Find("prompt");
    if (prompt == nullptr) {
      fields_.Fail("prompt", "prompt is missing");
    } else if (prompt->is_string()) {
      AddText(prompt->get<std::string>());
    } else if (prompt->is_array() && !prompt->empty()) {
      ReadList(*prompt);
    } else {
      fields_.Fail("prompt",
                   "prompt must be a string, a list of strings, a list of token ids or a "
                   "list of such lists");
    }
  }

 private:
  static constexpr size_t kMaxPrompts = 128;

  void ReadList(const json& list) {
    if (list.front().is_number()) {
      AddTokens(list, "prompt");
      return;
    }
    if (list.size() > kMaxPrompts) {
      fields_.Fail("prompt", "prompt holds " + std::to_string(list.size()) +
                                 " prompts, the limit is " + std::to_string(kMaxPrompts));
      return;
    }
    for (size_t i = 0; i < list.size() && !fields_.failed(); ++i) {
      const std::string name = "prompt[" + std::to_string(i) + "]";
      if (list[i].is_string()) {
        AddText(list[i].get<std::string>());
      } else if (list[i].is_array() && !list[i].empty()) {
        AddTokens(list[i], name);
      } else {
        fields_.Fail(name, name + " is " + JsonKind(list[i]) +
                               ", it must be a string or a list of token ids");
      }
    }
  }

  void AddText(std::string text) {
    out_.echoes.push_back(text);
    Add(PromptText{std::move(text), SpecialText::kTurns});
  }

  void AddTokens(const json& ids, const std::string& name) {
    const SpecialTokens& special = model_.tokenizer.special();
    PromptTokens tokens;
    for (size_t i = 0; i < ids.size(); ++i) {
      const std::optional<int64_t> id = IntegerOf(ids[i]);
      const bool is_token = id && *id >= 0 && *id < model_.tokenizer.vocab_size() &&
                            *id != special.image && *id != special.fake_image;
      if (!is_token) {
        const std::string item = name + "[" + std::to_string(i) + "]";
        fields_.Fail(item, item + " is no token id of a text: from 0 to " +
                               std::to_string(model_.tokenizer.vocab_size() - 1) +
                               ", images excepted");
        return;
      }
      tokens.ids.push_back(static_cast<int32_t>(*id));
    }
    out_.echoes.push_back(model_.tokenizer.Decode(tokens.ids, /*skip_special=*/true));
    Add(std::move(tokens));
  }

  void Add(PromptPiece piece) {
    out_.prompts.emplace_back();
    out_.prompts.back().prompt.push_back(std::move(piece));
  }

  const ModelFacts& model_;
  FieldReader& fields_;
  CompletionRequest& out_;
};

// The same sampling for every prompt.
void ShareSampling(const GenerateRequest& read, CompletionRequest* out) {
  for (GenerateRequest& request : out->prompts) {
    std::vector<PromptPiece> prompt = std::move(request.prompt);
    request = read;
    request.prompt = std::move(prompt);
  }
}

void RefuseTextFields(const CompletionRequest& out, FieldReader* fields) {
  fields->Refuse("suffix", "suffix is not supported: the model writes forward only");
  fields->Refuse("prompt_embeds", "prompt_embeds is not supported");
  int best_of = out.num_choices;
  fields->Integer("best_of", out.num_choices, out.num_choices, &best_of);
  if (out.stream && out.prompts.size() > 1) {
    fields->Fail(
        "prompt",
        "a stream answers one prompt, and prompt holds " + std::to_string(out.prompts.size()),
        "unsupported_value");
  }
}

}  // namespace

OpenAiError FailureOf(const Status& failure, const CompletionRequest& request) {
  OpenAiError error = ErrorOf(failure);
  if (error.status != 400) return error;
  const auto& params = request.image_params;
  const std::optional<int> image = failure.item();
  if (image && static_cast<size_t>(*image) < params.size()) {
    error.param = params[*image];
  } else {
    switch (request.form) {
      case CompletionRequest::Form::kChat:
        error.param = "messages";
        break;
      case CompletionRequest::Form::kText:
        error.param = "prompt";
        break;
      case CompletionRequest::Form::kResponse:
        error.param = "input";
        break;
    }
  }
  return error;
}

std::variant<CompletionRequest, OpenAiError> ReadChatRequest(const json& body,
                                                             const ModelFacts& model) {
  FieldReader fields(body, "");
  if (auto error = CheckModel(model.options, &fields)) return *error;
  CompletionRequest out;
  out.prompts.resize(1);
  GenerateRequest& request = out.prompts.front();
  const int most = model.options.default_max_tokens;
  ReadMaxTokens({"max_completion_tokens", "max_tokens"}, most > 0 ? most : kRestOfContext, &fields,
                &request);
  ReadChatLogprobs(&fields, &out);
  AskForLogprobs(out.top_logprobs, &request.sampling);
  ReadSamplingFields(model, &fields, &request);
  out.num_choices = request.sampling.num_choices;
  ReadStreamFields(body, &fields, &out);
  RefuseUnsupportedFields(&fields);
  fields.Refuse("echo", "echo is not supported in a chat");
  out.names_service_tier = fields.Find("service_tier") != nullptr;
  ReadChat(model, &fields, &out);
  return Outcome(fields, std::move(out));
}

std::variant<CompletionRequest, OpenAiError> ReadTextRequest(const json& body,
                                                             const ModelFacts& model) {
  constexpr int kDefaultMaxTokens = 16;
  FieldReader fields(body, "");
  if (auto error = CheckModel(model.options, &fields)) return *error;
  CompletionRequest out;
  out.form = CompletionRequest::Form::kText;
  GenerateRequest read;
  ReadMaxTokens({"max_tokens"}, kDefaultMaxTokens, &fields, &read);
  int top = 0;
  if (fields.Integer("logprobs", 0, kMaxTopLogprobs, &top)) out.top_logprobs = top;
  AskForLogprobs(out.top_logprobs, &read.sampling);
  ReadSamplingFields(model, &fields, &read);
  out.num_choices = read.sampling.num_choices;
  ReadStreamFields(body, &fields, &out);
  RefuseUnsupportedFields(&fields);
  PromptReader(model, &fields, &out).Read();
  if (fields.failed()) return InvalidField(*fields.error());
  ShareSampling(read, &out);
  bool echo = false;
  fields.Bool("echo", &echo);
  if (echo && out.top_logprobs) {
    out.scores_prompt = true;
    for (GenerateRequest& prompt : out.prompts) prompt.sampling.score_prompt = true;
  }
  if (!echo) out.echoes.assign(out.prompts.size(), "");
  RefuseTextFields(out, &fields);
  return Outcome(fields, std::move(out));
}

}  // namespace idefics
