// SPDX-License-Identifier: Apache-2.0
// RowChoice: how the next token of one row is chosen, in a form that a device can read. It lets a
// runner choose tokens where the logits are, so that the next step starts before the host has seen
// them. Pure functions; no device, no threads.
#pragma once

#include <cstdint>
#include <span>

#include "predictor/sampling/sampling_params.h"

namespace idefics {

enum class ChoiceMode : int32_t {
  kNone = 0,    // the row's token is not chosen here
  kGreedy = 1,  // the largest score, of equal ones the first
  kSample = 2,
};

// What stands in the place of a token that was not chosen.
constexpr int32_t kNotChosen = -1;
constexpr int32_t kNotFinite = -2;  // the row's logits are not all finite

// A row of the `choices` tensor of idefics::choose_tokens, bit for bit. Single floats where the
// processors compute in f32.
struct RowChoice {
  static constexpr int kMaxBanned = 16;

  double uniform = 0;  // in [0, 1): the place in the distribution; kSample
  double top_p = 1;
  float temperature = 1;
  float min_p = 0;
  float typical_p = 1;
  float repetition_penalty = 1;
  ChoiceMode mode = ChoiceMode::kNone;
  int32_t top_k = 0;
  int32_t no_repeat_ngram_size = 0;
  // The sequence's tokens so far: history[history_start …]. The chosen one goes behind them.
  int32_t history_start = 0;
  int32_t history_length = 0;
  int32_t banned_count = 0;
  int32_t banned[kMaxBanned] = {};  // bad words of one token; eos before min_new_tokens
};
constexpr int64_t kMaxChoiceVocab = 131072;  // of which a device's operator can choose
constexpr int64_t kRowChoiceWords = sizeof(RowChoice) / sizeof(int32_t);
static_assert(sizeof(RowChoice) == 120);

// Whether a RowChoice can say it: one beam, no log probabilities, bad words of one token only.
bool HasRowChoice(const SamplingParams& sampling);

// For the token after `new_tokens` others; the history fields are the runner's to fill in.
// REQUIRES: HasRowChoice(sampling).
RowChoice MakeRowChoice(const SamplingParams& sampling, int64_t new_tokens, double uniform);

// What a device's operator computes, on the host. history: choice.history_length tokens. scores:
// [vocab], overwritten. kNotChosen without a mode; kNotFinite where a score is infinite or
// undefined.
int32_t ChooseToken(const RowChoice& choice, std::span<const int32_t> history,
                    std::span<float> scores);

// The token of scores [vocab] that went through ApplyProcessors: the largest, of equal ones the
// first, or the one at `uniform` in [0, 1) of the distribution that the warpers leave in `scores`.
int32_t PickToken(const SamplingParams& sampling, std::span<float> scores, double uniform);

bool AllFinite(std::span<const float> scores);

}  // namespace idefics
