// SPDX-License-Identifier: Apache-2.0
// How a request's tokens are sampled.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace idefics {

// transformers' `early_stopping`: false, true, "never".
enum class EarlyStopping { kHeuristic, kFirstFinished, kNever };

// What log probabilities are of.
enum class LogprobsMode {
  kProcessed,  // the scores that the token is picked by, after all that the request asks for
  kRaw,        // the model's own logits
};

// Names, meaning and order of application as transformers 4.57 `GenerationConfig`; what that has
// not is OpenAI's (docs/model.md#logits-processors).
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
  double presence_penalty = 0;   // subtracted from the score of each new token so far
  double frequency_penalty = 0;  // the same, as often as it came
  std::vector<std::pair<int32_t, float>> logit_bias;  // (token, added to its score); bans stay bans
  int no_repeat_ngram_size = 0;                       // 0: off
  std::vector<std::vector<int32_t>> bad_words_ids;
  std::vector<int32_t> eos_token_ids;
  int num_beams = 1;
  double length_penalty = 1.0;
  EarlyStopping early_stopping = EarlyStopping::kHeuristic;
  int num_choices = 1;  // answers of one prompt; answer i is that of ChoiceSeed(seed, i) alone
  std::optional<uint64_t> seed;      // unset: a fresh random one
  std::vector<std::string> stop;     // generation ends where one of these appears in the new text
  bool include_stop_string = false;  // the text ends after it, not before
  // How many of the largest log probabilities to return for each new token beside its own; unset:
  // none at all.
  std::optional<int> num_logprobs;
  LogprobsMode logprobs_mode = LogprobsMode::kProcessed;
  // Also for each token of the prompt but the first; always raw ones. REQUIRES: num_logprobs is
  // set.
  bool score_prompt = false;

  bool IsEos(int32_t token) const {
    return std::find(eos_token_ids.begin(), eos_token_ids.end(), token) != eos_token_ids.end();
  }
};

// The seed of choice `index` of a request with `seed`; of the first one it is the same. The others
// are splitmix64 (Steele et al. 2014) at seed + index · 0x9E3779B97F4A7C15 (docs/model.md#choices).
inline uint64_t ChoiceSeed(uint64_t seed, int index) {
  if (index == 0) return seed;
  uint64_t x = seed + static_cast<uint64_t>(index) * 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

}  // namespace idefics
