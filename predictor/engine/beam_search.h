// SPDX-License-Identifier: Apache-2.0
// BeamSearch as transformers 4.57 (`GenerationMixin._beam_search` in generation/utils.py;
// docs/model.md#beam-search): K = max(2, 1 + number of eos tokens) * num_beams candidates a step; a
// candidate counts as finished only among the first num_beams; score = sum of log probabilities /
// (new tokens)^length_penalty.
#pragma once

#include "predictor/engine/token_search.h"

namespace idefics {

class BeamSearch : public TokenSearch {
 public:
  BeamSearch(const SamplingParams& sampling, std::vector<int32_t> prompt);

  SearchStep Advance(std::span<const float> logits, int64_t vocab) override;
  bool finished() const override { return finished_; }
  FinishReason finish_reason() const override { return finish_reason_; }
  const std::vector<int32_t>& new_tokens() const override { return done_.front().tokens; }
  const std::vector<TokenLogprobs>& logprobs() const override { return done_.front().logprobs; }
  bool streams() const override { return false; }

 private:
  struct Hypothesis {
    std::vector<int32_t> tokens;  // new ones
    std::vector<TokenLogprobs> logprobs;
    float score = -1e9f;
    bool finished = false;
  };
  struct Candidate {
    float score = 0;  // accumulated log probability
    int32_t parent = 0;
    int32_t token = 0;
    bool stops = false;  // eos, or the length is reached
  };

  // Log probabilities of every row after the processors, plus the row's score: [rows, vocab].
  std::vector<float> AccumulatedScores(std::span<const float> logits, int64_t vocab);
  std::vector<Candidate> BestCandidates(std::span<const float> scores, int64_t vocab) const;
  Hypothesis Extend(const Candidate& candidate) const;
  void UpdateDone(const std::vector<Candidate>& candidates);
  SearchStep ContinueRunning(const std::vector<Candidate>& candidates);
  bool MayImprove() const;

  SamplingParams sampling_;
  std::vector<int32_t> prompt_;
  std::vector<Hypothesis> running_;   // num_beams, best first
  std::vector<Hypothesis> done_;      // num_beams, best first; score -1e9 where still empty
  std::vector<float> step_logprobs_;  // [running rows, vocab] where asked for
  int length_ = 0;                    // new tokens of the running hypotheses
  bool may_improve_ = true;
  bool finished_ = false;
  FinishReason finish_reason_ = FinishReason::kLength;
};

}  // namespace idefics
