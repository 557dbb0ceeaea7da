// SPDX-License-Identifier: Apache-2.0
#include "predictor/choice_writer.h"

#include <algorithm>

namespace idefics {

// What of the text may be shown now that `text` follows.
std::string ChoiceWriter::Release(const std::string& text) {
  decoded_bytes_ += text.size();
  return matcher_.Push(text);
}

void ChoiceWriter::Emit(const std::string& text, bool last) {
  const size_t end = choice_.token_ids.size() - (ended_ ? 1 : 0);
  if (text.empty() && !(last && end > shown_tokens_)) return;
  TextPiece piece;
  piece.text = text;
  piece.choice = index_;
  const size_t count = end - shown_tokens_;
  piece.token_ids = std::span(choice_.token_ids).subspan(shown_tokens_, count);
  if (!choice_.logprobs.empty()) {
    piece.logprobs = std::span(choice_.logprobs).subspan(shown_tokens_, count);
  }
  shown_tokens_ = end;
  choice_.text += text;
  observer_.OnText(piece);
}

void ChoiceWriter::Add(std::span<const int32_t> tokens, std::span<const TokenLogprobs> logprobs) {
  for (size_t i = 0; i < tokens.size() && !stopped(); ++i) {
    choice_.token_ids.push_back(tokens[i]);
    if (i < logprobs.size()) choice_.logprobs.push_back(logprobs[i]);
    ended_ = std::find(end_tokens_.begin(), end_tokens_.end(), tokens[i]) != end_tokens_.end();
    Emit(Release(detokenizer_.Push(tokens[i])), /*last=*/false);
  }
}

void ChoiceWriter::Finish(FinishReason reason, std::span<const int32_t> prompt) {
  std::string rest = stopped() ? "" : Release(detokenizer_.Finish());
  rest += matcher_.Finish();
  Emit(rest, /*last=*/true);
  finished_ = true;
  choice_.finish_reason = stopped() ? FinishReason::kStopString : reason;
  std::vector<int32_t> all(prompt.begin(), prompt.end());
  all.insert(all.end(), choice_.token_ids.begin(), choice_.token_ids.end());
  choice_.full_text = tokenizer_.Decode(all, /*skip_special=*/true);
  choice_.full_text.resize(choice_.full_text.size() - (decoded_bytes_ - choice_.text.size()));
  observer_.OnChoiceEnd(index_, choice_.finish_reason);
}

}  // namespace idefics
