// SPDX-License-Identifier: Apache-2.0
// The added and control tokens of an IDEFICS vocabulary, and who may write them. Plain values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace idefics {

inline constexpr std::string_view kUnkLiteral = "<unk>";
inline constexpr std::string_view kBosLiteral = "<s>";
inline constexpr std::string_view kEosLiteral = "</s>";
inline constexpr std::string_view kFakeImageLiteral = "<fake_token_around_image>";
inline constexpr std::string_view kImageLiteral = "<image>";
inline constexpr std::string_view kEndOfUtteranceLiteral = "<end_of_utterance>";

struct SpecialTokens {
  // Literal -> id, every special token of the model, e.g. {"<s>", 1}, {"<image>", 32001}.
  std::vector<std::pair<std::string, int32_t>> all;

  // Ids of the well-known ones; -1 where the model has none.
  int32_t unk = -1;
  int32_t bos = -1;
  int32_t eos = -1;
  int32_t pad = -1;  // <unk> in every released model
  int32_t fake_image = -1;
  int32_t image = -1;
  int32_t end_of_utterance = -1;  // instruct models only

  // Fills the named ids from the literals in `all`; pad = unk.
  static SpecialTokens FromLiterals(std::vector<std::pair<std::string, int32_t>> all);

  // The vocabulary of the released models: <unk> 0, <s> 1, </s> 2, then from `vocab_size` (32000)
  // <fake_token_around_image>, <image> and, for instruct, <end_of_utterance>.
  static SpecialTokens Released(int32_t vocab_size, bool instruct);
};

// Which literals written in a text become special ids.
enum class SpecialText {
  kNone,  // none: the API's `text`
  // All but <image> and <fake_token_around_image>, so that no text forges an image: the API's
  // `prompt`.
  kTurns,
  kAll,  // all: transformers' behaviour (docs/model.md#tokenizer), for comparisons with it
};

}  // namespace idefics
