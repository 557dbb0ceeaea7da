// SPDX-License-Identifier: Apache-2.0
// How a request's tokens are sampled.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace idefics {

// transformers' `early_stopping`: false, true, "never".
enum class EarlyStopping { kHeuristic, kFirstFinished, kNever };

// Names, meaning and order of application as transformers 4.57 `GenerationConfig`.
struct SamplingParams {
  int max_new_tokens = 512;
  int min_new_tokens = 0;  // eos is banned before that many new tokens
  bool do_sample = false;  // false: greedy, or beam search when num_beams > 1
  double temperature = 1.0;
  int top_k = 50;          // 0: off
  double top_p = 1.0;      // 1: off
  double min_p = 0.0;      // 0: off
  double typical_p = 1.0;  // 1: off
  double repetition_penalty = 1.0;
  int no_repeat_ngram_size = 0;  // 0: off
  std::vector<std::vector<int32_t>> bad_words_ids;
  std::vector<int32_t> eos_token_ids;
  int num_beams = 1;
  double length_penalty = 1.0;
  EarlyStopping early_stopping = EarlyStopping::kHeuristic;
  std::optional<uint64_t> seed;   // unset: a fresh random one
  std::vector<std::string> stop;  // generation ends where one of these appears in the new text
  int num_logprobs = 0;  // how many of the largest log probabilities to return per new token

  bool IsEos(int32_t token) const {
    return std::find(eos_token_ids.begin(), eos_token_ids.end(), token) != eos_token_ids.end();
  }
};

}  // namespace idefics
