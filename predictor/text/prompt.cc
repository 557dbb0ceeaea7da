// SPDX-License-Identifier: Apache-2.0
#include "predictor/text/prompt.h"

#include <string_view>

#include "common/ascii.h"

namespace idefics {
namespace {

// Collects text until a special token ends it.
class TokenWriter {
 public:
  explicit TokenWriter(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void AddText(std::string_view text, SpecialText special) {
    open_.push_back({std::string(text), special});
  }

  void AddSpecial(int32_t id) {
    CloseText();
    tokens_.push_back(id);
  }

  std::vector<int32_t> Finish() {
    CloseText();
    return std::move(tokens_);
  }

 private:
  void CloseText() {
    const std::vector<int32_t> ids = tokenizer_.Encode(open_);
    tokens_.insert(tokens_.end(), ids.begin(), ids.end());
    open_.clear();
  }

  const Tokenizer& tokenizer_;
  std::vector<PromptText> open_;
  std::vector<int32_t> tokens_;
};

}  // namespace

TokenizedPrompt BuildPrompt(const Tokenizer& tokenizer, std::span<const PromptPiece> pieces,
                            bool add_end_of_utterance) {
  const SpecialTokens& special = tokenizer.special();
  if (const auto* given = pieces.size() == 1 ? std::get_if<PromptTokens>(&pieces[0]) : nullptr) {
    return {given->ids, ImageIndex(given->ids, special, 0)};
  }
  TokenWriter writer(tokenizer);
  writer.AddSpecial(special.bos);
  int32_t num_images = 0;
  bool last_was_image = false;
  bool last_was_text = false;
  for (const PromptPiece& piece : pieces) {
    const auto* text = std::get_if<PromptText>(&piece);
    if (text == nullptr) {
      if (!last_was_image) writer.AddSpecial(special.fake_image);
      writer.AddSpecial(special.image);
      writer.AddSpecial(special.fake_image);
      ++num_images;
    } else {
      if (add_end_of_utterance && last_was_text) {
        if (special.end_of_utterance >= 0) {
          writer.AddSpecial(special.end_of_utterance);
        } else {
          writer.AddText(kEndOfUtteranceLiteral, SpecialText::kNone);
        }
      }
      writer.AddText(StripSpaces(text->text), text->special);
    }
    last_was_text = text != nullptr;
    last_was_image = !last_was_text;
  }
  TokenizedPrompt prompt;
  prompt.tokens = writer.Finish();
  prompt.image_index = ImageIndex(prompt.tokens, special, num_images);
  return prompt;
}

Status CheckTextBytes(const Tokenizer& tokenizer, std::span<const PromptPiece> pieces,
                      int max_sequence_tokens) {
  const size_t max_bytes = static_cast<size_t>(max_sequence_tokens) * tokenizer.max_token_bytes();
  if (max_bytes == 0) return Status::Ok();
  size_t bytes = 0;
  for (const PromptPiece& piece : pieces) {
    if (const auto* text = std::get_if<PromptText>(&piece)) bytes += text->text.size();
  }
  if (bytes <= max_bytes) return Status::Ok();
  return Status::PromptTooLong("the prompt has " + std::to_string(bytes) +
                               " bytes of text, more than " + std::to_string(max_sequence_tokens) +
                               " tokens can hold (--max-sequence-tokens): shorten the prompt");
}

std::vector<int32_t> ImageIndex(std::span<const int32_t> tokens, const SpecialTokens& special,
                                int32_t num_images) {
  std::vector<int32_t> index;
  index.reserve(tokens.size());
  int32_t image = -1;
  bool after_eos = false;
  for (const int32_t token : tokens) {
    if (token == special.image) {
      ++image;
      after_eos = false;
    }
    index.push_back(after_eos || image >= num_images ? -1 : image);
    if (token == special.eos) after_eos = true;
  }
  return index;
}

}  // namespace idefics
