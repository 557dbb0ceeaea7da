// SPDX-License-Identifier: Apache-2.0
// What transformers 4.57 does to a row of scores before a token is chosen, in its order and with
// its f32 arithmetic (src/transformers/generation/logits_process.py;
// docs/model.md#logits-processors). Pure functions.
#pragma once

#include <cstdint>
#include <span>

#include "predictor/sampling/sampling_params.h"

namespace idefics {

// Bias, penalties and bans: logit_bias, repetition_penalty, presence and frequency penalty (but
// for repetition as OpenAI describes them), no_repeat_ngram, bad words, min_new_tokens.
// tokens: prompt and new tokens so far. scores: [vocab], changed in place.
void ApplyProcessors(const SamplingParams& sampling, std::span<const int32_t> tokens,
                     int64_t prompt_length, std::span<float> scores);

// Sampling only: temperature, top_k, top_p, min_p, typical_p. Removed tokens become -infinity; at
// least `min_tokens_to_keep` stay (1; with beams 1 + number of eos tokens).
void ApplyWarpers(const SamplingParams& sampling, int64_t min_tokens_to_keep,
                  std::span<float> scores);

// Replaces scores[i] by scores[i] - log(sum(exp(scores))).
void LogSoftmax(std::span<float> scores);

}  // namespace idefics
