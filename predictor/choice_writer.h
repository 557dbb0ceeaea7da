// SPDX-License-Identifier: Apache-2.0
// ChoiceWriter: turns the tokens of one choice into its text, and shows it. One thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "predictor/predictor.h"
#include "predictor/text/detokenizer.h"
#include "predictor/text/stop_matcher.h"

namespace idefics {

class ChoiceWriter {
 public:
  // All but `sampling` must outlive this; `*choice` is choice number `index`.
  ChoiceWriter(const Tokenizer& tokenizer, const SamplingParams& sampling, int index,
               GenerateObserver& observer, Choice* choice)
      : tokenizer_(tokenizer),
        end_tokens_(sampling.eos_token_ids),
        index_(index),
        observer_(observer),
        choice_(*choice),
        detokenizer_(tokenizer),
        matcher_(sampling.stop, sampling.include_stop_string) {}

  // Takes tokens in order; those after a complete stop string are dropped. logprobs: one for each
  // of `tokens`, or none.
  void Add(std::span<const int32_t> tokens, std::span<const TokenLogprobs> logprobs);
  // A stop string is complete: the rest will not be used.
  bool stopped() const { return matcher_.matched(); }
  bool finished() const { return finished_; }

  // Call once, when it stopped or there are no more tokens. `reason`: why there are no more tokens.
  void Finish(FinishReason reason, std::span<const int32_t> prompt);

 private:
  std::string Release(const std::string& text);
  void Emit(const std::string& text, bool last);

  const Tokenizer& tokenizer_;
  const std::vector<int32_t> end_tokens_;
  const int index_;
  GenerateObserver& observer_;
  Choice& choice_;
  Detokenizer detokenizer_;
  StopMatcher matcher_;
  bool ended_ = false;  // the last token is an end token
  bool finished_ = false;
  size_t decoded_bytes_ = 0;  // without regard to stop strings
  size_t shown_tokens_ = 0;   // of choice_.token_ids: in the pieces so far
};

}  // namespace idefics
