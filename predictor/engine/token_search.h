// SPDX-License-Identifier: Apache-2.0
// TokenSearch: decides the next tokens of one request from the logits of its rows. SampleSearch is
// greedy decoding or sampling with one row; BeamSearch has num_beams rows. No device, no threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "predictor/sampling/row_choice.h"
#include "predictor/types.h"

namespace idefics {

// Rows to run next: row i continues row parents[i] of the step before with tokens[i].
struct SearchStep {
  std::vector<int32_t> parents;
  std::vector<int32_t> tokens;
};

class TokenSearch {
 public:
  virtual ~TokenSearch() = default;

  // logits: [rows, vocab]; the first call gets one row, the prompt's; later ones as many as the
  // last step asked for. The result is empty once finished() is true.
  virtual SearchStep Advance(std::span<const float> logits, int64_t vocab) = 0;

  // Whether a runner that chooses tokens may do so for this request, by NextChoice and Accept in
  // place of Advance.
  virtual bool has_choices() const { return false; }
  // How the runner is to choose the token after those accepted and `in_flight` chosen ones.
  // REQUIRES (both): has_choices().
  virtual RowChoice NextChoice(int64_t in_flight);
  virtual void Accept(int32_t token);

  virtual bool finished() const = 0;
  virtual FinishReason finish_reason() const = 0;

  // New tokens of the best sequence so far, eos included. With beams only final when finished().
  virtual const std::vector<int32_t>& new_tokens() const = 0;
  // One per new token when num_logprobs > 0, else empty.
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

// The `count` largest of log-softmaxed scores.
TokenLogprobs LargestLogprobs(std::span<const float> log_probabilities, int count);

}  // namespace idefics
