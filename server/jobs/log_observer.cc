// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/log_observer.h"

namespace idefics {

JobUsage UsageOf(const GenerateResult& result) {
  JobUsage usage;
  usage.prompt_tokens = static_cast<int64_t>(result.prompt_token_ids.size());
  usage.cached_tokens = result.num_cached_tokens;
  usage.image_tokens = result.num_image_tokens;
  for (const Choice& choice : result.choices) {
    usage.completion_tokens += static_cast<int64_t>(choice.token_ids.size());
  }
  return usage;
}

void LogObserver::OnText(const TextPiece& piece) {
  // Tokens without text are something only to who asked for their log probabilities.
  if (piece.text.empty() && piece.logprobs.empty() && !piece.token_ids.empty()) return;
  JobText text;
  text.piece = piece.text;
  text.choice = piece.choice;
  text.num_tokens = static_cast<int>(piece.token_ids.size());
  if (!piece.logprobs.empty()) {
    text.tokens = std::make_shared<const TokenDetails>(
        TokenDetails{{piece.token_ids.begin(), piece.token_ids.end()},
                     {piece.logprobs.begin(), piece.logprobs.end()}});
  }
  log_.AddText(std::move(text));
}

}  // namespace idefics
