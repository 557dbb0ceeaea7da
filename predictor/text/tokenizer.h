// SPDX-License-Identifier: Apache-2.0
// Tokenizer: text <-> token ids, equal to transformers' LlamaTokenizerFast (legacy) over the same
// vocabulary (docs/model.md#tokenizer, #decoding). One per model; immutable after Create, so every
// method may be called from any thread at once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "predictor/text/special_tokens.h"

namespace idefics {

class SentencePieceModel;

// A part of a prompt's text and which literals are special in it. Neighbouring texts are one string
// to the tokenizer; a literal that spans several is special only where all of them allow it.
struct PromptText {
  std::string text;
  SpecialText special = SpecialText::kNone;  // which literals in `text` become special tokens
};

// What one id adds to a text.
struct TokenPiece {
  enum class Kind {
    kText,     // `text`, with " " for "▁"
    kByte,     // `byte`, part of a character of several such tokens
    kSpecial,  // `text` is the literal
    kAbsent,   // no such token
  };
  Kind kind = Kind::kAbsent;
  uint8_t byte = 0;
  std::string_view text;  // lives as long as the tokenizer
};

class Tokenizer {
 public:
  // `model_bytes`: the content of the checkpoint's tokenizer.model.
  // Fails with kInvalidInput where that is no sentencepiece model; where it changes text (a
  // normaliser, no dummy prefix, no byte fallback), which LLaMA's does not; where `special`
  // disagrees with it; or where <s>, </s>, <image> or <fake_token_around_image> is missing.
  static Result<std::unique_ptr<Tokenizer>> Create(std::string_view model_bytes,
                                                   SpecialTokens special);
  ~Tokenizer();

  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Cuts the text at the leftmost (then longest) literals that the policy allows; every stretch
  // between them is encoded on its own, each with its own leading "▁". Adds no <s>.
  // Bytes that are no UTF-8 count as one U+FFFD each.
  std::vector<int32_t> Encode(std::string_view text, SpecialText policy) const;
  std::vector<int32_t> Encode(std::span<const PromptText> texts) const;

  // Always valid UTF-8: a maximal run of byte tokens that is no UTF-8 becomes one U+FFFD a byte.
  // One leading space of the whole is dropped. Ids without a token decode to nothing.
  // `skip_special`: leave special tokens out, else write their literals.
  std::string Decode(std::span<const int32_t> ids, bool skip_special) const;

  // Never fails: any id without a token is kAbsent.
  TokenPiece piece(int32_t id) const;
  // What it stands for within a text: the byte of a byte token, the literal of a special one.
  std::string Bytes(int32_t id) const;
  bool IsSpecial(int32_t id) const { return piece(id).kind == TokenPiece::Kind::kSpecial; }

  const SpecialTokens& special() const { return special_; }

  // The most bytes of text that one token stands for; 0: there is no such bound (a model without
  // byte tokens makes one <unk> of any run of characters that it does not know).
  size_t max_token_bytes() const { return max_token_bytes_; }

  // One more than the largest id, special tokens included.
  int32_t vocab_size() const { return static_cast<int32_t>(pieces_.size()); }

 private:
  struct StoredPiece {
    TokenPiece::Kind kind = TokenPiece::Kind::kAbsent;
    uint8_t byte = 0;
    std::string text;
  };
  struct SpecialMatch {
    size_t begin = 0;
    size_t length = 0;
    int32_t id = -1;
  };
  class JoinedTexts;

  Tokenizer(std::unique_ptr<SentencePieceModel> model, SpecialTokens special);
  Status ReadPieces();
  Status ReadSpecialTokens();
  Status CheckText() const;
  std::optional<SpecialMatch> FindSpecial(const JoinedTexts& joined, size_t from) const;
  bool MayBeSpecial(int32_t id, SpecialText policy) const;

  std::unique_ptr<SentencePieceModel> model_;
  SpecialTokens special_;
  std::vector<StoredPiece> pieces_;  // [vocab_size()]
  std::string first_bytes_;          // of the special literals
  size_t max_token_bytes_ = 0;
};

}  // namespace idefics
