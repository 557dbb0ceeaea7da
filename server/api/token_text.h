// SPDX-License-Identifier: Apache-2.0
// How a token and its log probability stand in an answer, whatever the API. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "common/utf8.h"
#include "predictor/text/tokenizer.h"

namespace idefics {

// The token's text with its leading space; a byte of a character is no text of its own.
inline std::string TokenText(const Tokenizer& tokenizer, int32_t id) {
  const TokenPiece piece = tokenizer.piece(id);
  if (piece.kind == TokenPiece::Kind::kByte) return std::string(kReplacementCharacter);
  return std::string(piece.text);
}

// JSON has no infinity.
inline float FiniteLogprob(float logprob) {
  constexpr float kSmallest = -9999;
  return logprob > kSmallest ? logprob : kSmallest;
}

}  // namespace idefics
