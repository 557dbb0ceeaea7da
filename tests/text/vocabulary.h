// SPDX-License-Identifier: Apache-2.0
// Vocabularies for tests: a tiny one made here, and LLaMA's where it is at hand.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "predictor/text/tokenizer.h"

namespace idefics {

// How a model made by SerializeModel treats text; the defaults are LLaMA's.
struct ModelTraits {
  bool dummy_prefix = true;
  bool remove_extra_spaces = false;
  bool byte_fallback = true;
  std::vector<std::string> user_defined = {};  // symbols matched whole anywhere in text
};

// A sentencepiece BPE model (protobuf wire format): <unk> 0, <s> 1, </s> 2, bytes 3..258, then
// `user_defined`, then `pieces` ("▁" for a space), earlier ones merged first.
std::string SerializeModel(const std::vector<std::string>& pieces, const ModelTraits& traits = {});

// Lower-case letters, a few syllables, "▁", ":" and "é"; everything else is bytes. 320 pieces.
std::string TinyModel();
inline constexpr int kTinyPieces = 320;

// Over TinyModel: fake 320, image 321 and, for instruct, end of utterance 322.
std::unique_ptr<Tokenizer> TinyTokenizer(bool instruct = true);

// The whole file, or nothing.
std::optional<std::string> ReadFile(const std::string& path);

// The released instruct vocabulary over LLaMA's tokenizer.model, which IDEFICS_LLAMA_TOKENIZER
// names: Meta's licence keeps it out of this repository. nullptr where it is absent.
std::unique_ptr<Tokenizer> LlamaTokenizer(bool instruct = true);
inline constexpr const char* kNoLlamaTokenizer =
    "no LLaMA vocabulary: set IDEFICS_LLAMA_TOKENIZER to its tokenizer.model";

}  // namespace idefics
