// SPDX-License-Identifier: Apache-2.0
// SampleSearch: one sequence, greedy (the lowest index wins a tie, as torch.argmax) or sampled with
// a generator of its own, so that a seed gives the same tokens whatever else runs.
#pragma once

#include <random>

#include "predictor/engine/token_search.h"

namespace idefics {

class SampleSearch : public TokenSearch {
 public:
  SampleSearch(const SamplingParams& sampling, std::vector<int32_t> prompt);

  SearchStep Advance(std::span<const float> logits, int64_t vocab) override;
  bool can_sample_on_device() const override { return CanSampleOnDevice(sampling_); }
  DeviceSamplingParams NextSamplingParams(int64_t in_flight) override;
  void Accept(int32_t token) override;
  bool finished() const override { return finished_; }
  FinishReason finish_reason() const override { return finish_reason_; }
  const std::vector<int32_t>& new_tokens() const override { return new_tokens_; }
  const std::vector<TokenLogprobs>& logprobs() const override { return logprobs_; }
  bool streams() const override { return true; }

 private:
  // From the request's own generator; greedy decoding needs none.
  double NextUniform() {
    return sampling_.do_sample ? std::uniform_real_distribution<double>(0, 1)(random_) : 0;
  }

  SamplingParams sampling_;
  int64_t prompt_length_;
  std::vector<int32_t> tokens_;  // prompt and new
  std::vector<int32_t> new_tokens_;
  std::vector<TokenLogprobs> logprobs_;
  std::mt19937_64 random_;
  std::vector<float> scores_;  // [vocab], reused
  bool finished_ = false;
  FinishReason finish_reason_ = FinishReason::kLength;
};

}  // namespace idefics
