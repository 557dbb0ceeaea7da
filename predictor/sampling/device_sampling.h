// SPDX-License-Identifier: Apache-2.0
// DeviceSamplingParams: how the next token of one row is sampled, in a form that a device can read.
// With it a runner samples where the logits are, so that the next step starts before the host has
// seen the tokens. Pure functions; no device, no threads.
#pragma once

#include <cstdint>
#include <span>

#include "predictor/sampling/sampling_params.h"

namespace idefics {

enum class SamplingMode : int32_t {
  kNone = 0,    // the row is not sampled on the device
  kGreedy = 1,  // the largest score; the first of equal ones
  kSample = 2,
};

// In the place of a sampled token:
constexpr int32_t kNoToken = -1;    // the row was not sampled
constexpr int32_t kNotFinite = -2;  // the row's logits are not all finite

// A row of the `sampling_params` tensor of idefics::sample_tokens, bit for bit. Floats where the
// processors compute in f32.
struct DeviceSamplingParams {
  static constexpr int kMaxBanned = 17;  // fills the struct

  double uniform = 0;  // in [0, 1): the position in the distribution; kSample
  double top_p = 1;
  float temperature = 1;
  float min_p = 0;
  float typical_p = 1;
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  SamplingMode mode = SamplingMode::kNone;
  int32_t top_k = 0;
  int32_t no_repeat_ngram_size = 0;
  // The sequence's tokens so far are history_length: shared_length of them from
  // history[shared_start] on, the others from history[history_start] on. The sampled one is stored
  // after them.
  int32_t shared_start = 0;
  int32_t shared_length = 0;
  int32_t history_start = 0;
  int32_t history_length = 0;
  int32_t new_tokens = 0;  // of them, the last ones: what presence and frequency count
  int32_t banned_count = 0;
  int32_t banned[kMaxBanned] = {};  // bad words of one token; eos before min_new_tokens
};
constexpr int64_t kMaxDeviceVocab = 131072;  // the largest vocabulary of the CUDA operator
constexpr int64_t kDeviceSamplingWords = sizeof(DeviceSamplingParams) / sizeof(int32_t);
static_assert(sizeof(DeviceSamplingParams) == 144);

// Whether DeviceSamplingParams can express `sampling`: one beam, no log probabilities, no bias, and
// only bad words of one token.
bool CanSampleOnDevice(const SamplingParams& sampling);

// The params of the token that follows `new_tokens` new ones. The runner fills in the history
// fields.
// REQUIRES: CanSampleOnDevice(sampling).
DeviceSamplingParams MakeDeviceSamplingParams(const SamplingParams& sampling, int64_t new_tokens,
                                              double uniform);

// Computes on the host what the device's operator computes. history: the sequence's tokens, one
// after another.
// scores: [vocab], overwritten. kNoToken where the mode is kNone; kNotFinite where a score is not
// finite.
int32_t SampleToken(const DeviceSamplingParams& params, std::span<const int32_t> history,
                    std::span<float> scores);

// Picks a token by scores [vocab] after ApplyProcessors: the largest (the first of equal ones), or,
// when sampling, the one at `uniform` in [0, 1) of the distribution that the warpers leave.
// Overwrites `scores` when sampling.
int32_t PickToken(const SamplingParams& sampling, std::span<float> scores, double uniform);

bool AllFinite(std::span<const float> scores);

}  // namespace idefics
