// SPDX-License-Identifier: Apache-2.0
// From a sequence of texts and images to tokens, as transformers' IdeficsProcessor builds them
// (docs/model.md#prompt-expansion, #which-image-a-token-sees). Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "predictor/text/tokenizer.h"
#include "predictor/types.h"

namespace idefics {

struct TokenizedPrompt {
  std::vector<int32_t> tokens;
  // Per token: the image it sees, counted over the images of the prompt; -1 = none. Generated
  // tokens see what the last token of the prompt sees.
  std::vector<int32_t> image_index;
};

// The ids of a prompt that is PromptTokens. Else <s>, then the pieces: spaces (U+0020 only) at both
// ends of a text are dropped, images become <fake><image><fake> (neighbouring ones share the <fake>
// between them), and texts without an image between them are one string to the tokenizer.
// `add_end_of_utterance`: put <end_of_utterance> between two neighbouring texts; a model without
// that token gets the literal as ordinary text, as in transformers.
TokenizedPrompt BuildPrompt(const Tokenizer& tokenizer, std::span<const PromptPiece> pieces,
                            bool add_end_of_utterance);

// kPromptTooLong for a text that cannot fit into so many tokens, told by its bytes: to tokenize it
// would cost a hundred bytes for each.
Status CheckTextBytes(const Tokenizer& tokenizer, std::span<const PromptPiece> pieces,
                      int max_sequence_tokens);

// Each token sees the last <image> at or before it. Tokens after </s> see none until the next
// <image>; nor do those whose last <image> has an index >= num_images.
std::vector<int32_t> ImageIndex(std::span<const int32_t> tokens, const SpecialTokens& special,
                                int32_t num_images);

}  // namespace idefics
