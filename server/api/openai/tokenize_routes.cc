// SPDX-License-Identifier: Apache-2.0
#include "server/api/openai/tokenize_routes.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "predictor/text/prompt.h"
#include "server/api/field_reader.h"
#include "server/api/json_body.h"
#include "server/api/openai/chat_prompt.h"
#include "server/api/openai/request_fields.h"

namespace idefics {
namespace {

using nlohmann::json;
// A token as a vocabulary lists it.
std::string TokenName(const Tokenizer& tokenizer, int32_t id) {
  const TokenPiece piece = tokenizer.piece(id);
  if (piece.kind != TokenPiece::Kind::kByte) return std::string(piece.text);
  constexpr const char* kDigits = "0123456789ABCDEF";
  return std::string("<0x") + kDigits[piece.byte >> 4] + kDigits[piece.byte & 15] + ">";
}

// The pieces that the fields ask to be tokenized. Text has its own special tokens, as in a prompt.
std::vector<PromptPiece> ReadPieces(const Tokenizer& tokenizer, FieldReader* fields) {
  ChatForm form;
  form.has_end_of_utterance = tokenizer.special().end_of_utterance >= 0;
  fields->Bool("add_generation_prompt", &form.add_generation_prompt);
  fields->Bool("continue_final_message", &form.continue_final_message);
  if (const json* messages = fields->Find("messages")) {
    auto read = ReadMessages(*messages);
    if (auto* error = std::get_if<FieldProblem>(&read)) {
      fields->Adopt(*error);
      return {};
    }
    return ChatPrompt(std::get<std::vector<ChatMessage>>(read), form);
  }
  std::string text;
  for (const char* name : {"prompt", "content", "inputs"}) {
    if (fields->Text(name, &text) || fields->failed())
      return {PromptText{text, SpecialText::kTurns}};
  }
  fields->Fail("prompt", "give a prompt or messages");
  return {};
}

}  // namespace

HttpResponse TokenizeRoutes::Tokenize(HttpRequest& request) const {
  auto object = ReadFields(service_, request);
  if (const auto* error = std::get_if<OpenAiError>(&object)) return ErrorResponse(*error);
  const Predictor& predictor = service_.predictor();
  const Tokenizer& tokenizer = *predictor.tokenizer();
  FieldReader fields(std::get<json>(object), "");
  bool add_special_tokens = true;
  bool return_token_strs = false;
  fields.Bool("add_special_tokens", &add_special_tokens);
  fields.Bool("return_token_strs", &return_token_strs);
  const std::vector<PromptPiece> pieces = ReadPieces(tokenizer, &fields);
  if (fields.failed()) return ErrorResponse(InvalidField(*fields.error()));
  const Status fits = CheckTextBytes(tokenizer, pieces, predictor.info().max_sequence_tokens);
  if (!fits.ok()) {
    OpenAiError error = ErrorOf(fits);
    error.param = "prompt";
    return ErrorResponse(error);
  }
  std::vector<int32_t> tokens;
  const auto* text = pieces.size() == 1 ? std::get_if<PromptText>(&pieces.front()) : nullptr;
  if (text != nullptr && !add_special_tokens) {
    tokens = tokenizer.Encode(text->text, text->special);
  } else {
    tokens = BuildPrompt(tokenizer, pieces, /*add_end_of_utterance=*/false).tokens;
  }
  json answer = {{"count", tokens.size()},
                 {"max_model_len", predictor.info().max_sequence_tokens},
                 {"tokens", tokens}};
  if (return_token_strs) {
    answer["token_strs"] = json::array();
    for (const int32_t id : tokens) answer["token_strs"].push_back(TokenName(tokenizer, id));
  }
  return HttpResponse::Json(200, JsonBytes(answer));
}

HttpResponse TokenizeRoutes::Detokenize(HttpRequest& request) const {
  auto object = ReadFields(service_, request);
  if (const auto* error = std::get_if<OpenAiError>(&object)) return ErrorResponse(*error);
  const Tokenizer& tokenizer = *service_.predictor().tokenizer();
  FieldReader fields(std::get<json>(object), "");
  std::vector<int32_t> tokens;
  constexpr size_t kMostTokens = 100'000;
  if (!fields.Integers("tokens", 0, tokenizer.vocab_size() - 1, kMostTokens, &tokens)) {
    fields.Fail("tokens", "tokens is missing");
    return ErrorResponse(InvalidField(*fields.error()));
  }
  return HttpResponse::Json(
      200, JsonBytes({{"prompt", tokenizer.Decode(tokens, /*skip_special=*/false)}}));
}

HttpResponse TokenizeRoutes::Info() const {
  if (auto unready = WhyNotReady(service_)) return ErrorResponse(*unready);
  return HttpResponse::Json(200, JsonBytes({{"tokenizer_class", "LlamaTokenizer"},
                                            {"bos_token", kBosLiteral},
                                            {"eos_token", kEosLiteral},
                                            {"pad_token", kUnkLiteral},
                                            {"unk_token", kUnkLiteral},
                                            {"chat_template", nullptr}}));
}

}  // namespace idefics
