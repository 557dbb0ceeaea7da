// SPDX-License-Identifier: Apache-2.0
// TokenSearch: decides the next tokens of one request from the logits of its sequences.
// SampleSearch is greedy decoding or sampling with one sequence; BeamSearch has num_beams
// sequences. No device, no threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "predictor/sampling/device_sampling.h"
#include "predictor/types.h"

namespace idefics {

// The sequences to run next: sequence i continues sequence parents[i] of the step before with
// tokens[i].
struct SearchStep {
  std::vector<int32_t> parents;
  std::vector<int32_t> tokens;
};

class TokenSearch {
 public:
  virtual ~TokenSearch() = default;

  // logits: [sequences, vocab]. The first call gets one row, the prompt's; later calls get as many
  // as the last result has sequences. The result is empty once finished() is true.
  virtual SearchStep Advance(std::span<const float> logits, int64_t vocab) = 0;

  // Whether the device may sample for this request, with NextSamplingParams and Accept in place of
  // Advance.
  virtual bool can_sample_on_device() const { return false; }
  // The params of the token that follows the accepted ones and `in_flight` sampled ones.
  // REQUIRES (both): can_sample_on_device().
  virtual DeviceSamplingParams NextSamplingParams(int64_t in_flight);
  virtual void Accept(int32_t token);

  virtual bool finished() const = 0;
  virtual FinishReason finish_reason() const = 0;

  // New tokens of the best sequence so far, eos included. With beams only final when finished().
  virtual const std::vector<int32_t>& new_tokens() const = 0;
  // One per new token where num_logprobs is set, else empty.
  virtual const std::vector<TokenLogprobs>& logprobs() const = 0;
  // True if new_tokens() only ever grows, so that each token can be shown at once.
  virtual bool streams() const = 0;
};

// REQUIRES: CheckSampling(sampling) is ok.
std::unique_ptr<TokenSearch> MakeTokenSearch(const SamplingParams& sampling,
                                             std::vector<int32_t> prompt);

// kInvalidInput if a value is out of its range, as transformers 4.57 refuses it
// (docs/model.md#values-that-are-refused).
Status CheckSampling(const SamplingParams& sampling, int32_t vocab_size);

// That of `token` and the `count` largest of log-softmaxed scores.
TokenLogprobs LogprobsOf(int32_t token, std::span<const float> log_probabilities, int count);

}  // namespace idefics
