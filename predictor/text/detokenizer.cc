// SPDX-License-Identifier: Apache-2.0
#include "predictor/text/detokenizer.h"

#include <utility>

#include "common/utf8.h"

namespace idefics {

std::string Detokenizer::Push(int32_t id) {
  const TokenPiece piece = tokenizer_.piece(id);
  switch (piece.kind) {
    case TokenPiece::Kind::kAbsent:
      return "";
    case TokenPiece::Kind::kByte:
      run_ += static_cast<char>(piece.byte);
      return "";
    case TokenPiece::Kind::kSpecial:
      if (skip_special_) return "";
      break;
    case TokenPiece::Kind::kText:
      break;
  }
  return Emit(CloseRun().append(piece.text));
}

std::string Detokenizer::Finish() { return Emit(CloseRun()); }

std::string Detokenizer::CloseRun() {
  std::string run = std::exchange(run_, {});
  if (IsValidUtf8(run)) return run;
  std::string replaced;
  for (size_t i = 0; i < run.size(); ++i) replaced += kReplacementCharacter;
  return replaced;
}

std::string Detokenizer::Emit(std::string text) {
  if (text.empty() || !std::exchange(at_start_, false)) return text;
  if (text[0] == ' ') text.erase(0, 1);
  return text;
}

}  // namespace idefics
