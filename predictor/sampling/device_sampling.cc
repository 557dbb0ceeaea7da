// SPDX-License-Identifier: Apache-2.0
#include "predictor/sampling/device_sampling.h"

#include <algorithm>
#include <cmath>

#include "predictor/sampling/logits_processors.h"

namespace idefics {
namespace {

// Inverse of the cumulative distribution exp(scores) at `uniform` in [0, 1).
int32_t Draw(std::span<const float> scores, double uniform) {
  const float largest = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (const float s : scores) total += std::exp(static_cast<double>(s - largest));
  double left = uniform * total;
  int32_t last = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const double weight = std::exp(static_cast<double>(scores[i] - largest));
    if (weight == 0) continue;
    last = static_cast<int32_t>(i);
    left -= weight;
    if (left < 0) break;
  }
  return last;
}

}  // namespace

bool AllFinite(std::span<const float> scores) {
  return std::all_of(scores.begin(), scores.end(), [](float s) { return std::isfinite(s); });
}

int32_t PickToken(const SamplingParams& sampling, std::span<float> scores, double uniform) {
  if (!sampling.do_sample) {
    return static_cast<int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
  }
  ApplyWarpers(sampling, 1, scores);
  return Draw(scores, uniform);
}

bool CanSampleOnDevice(const SamplingParams& sampling) {
  const auto& bad = sampling.bad_words_ids;
  return sampling.num_beams == 1 && !sampling.num_logprobs && sampling.logit_bias.empty() &&
         bad.size() + sampling.eos_token_ids.size() <= DeviceSamplingParams::kMaxBanned &&
         std::all_of(bad.begin(), bad.end(), [](const auto& word) { return word.size() == 1; });
}

DeviceSamplingParams MakeDeviceSamplingParams(const SamplingParams& sampling, int64_t new_tokens,
                                              double uniform) {
  DeviceSamplingParams params;
  params.mode = sampling.do_sample ? SamplingMode::kSample : SamplingMode::kGreedy;
  params.uniform = uniform;
  params.top_p = sampling.top_p;
  params.temperature = static_cast<float>(sampling.temperature);
  params.min_p = static_cast<float>(sampling.min_p);
  params.typical_p = static_cast<float>(sampling.typical_p);
  params.repetition_penalty = static_cast<float>(sampling.repetition_penalty);
  params.presence_penalty = static_cast<float>(sampling.presence_penalty);
  params.frequency_penalty = static_cast<float>(sampling.frequency_penalty);
  params.new_tokens = static_cast<int32_t>(new_tokens);
  params.top_k = sampling.top_k;
  params.no_repeat_ngram_size = sampling.no_repeat_ngram_size;
  const auto ban = [&](int32_t token) { params.banned[params.banned_count++] = token; };
  for (const auto& word : sampling.bad_words_ids) {
    if (!sampling.IsEos(word[0])) ban(word[0]);
  }
  if (new_tokens < sampling.min_new_tokens) {
    for (const int32_t eos : sampling.eos_token_ids) ban(eos);
  }
  return params;
}

int32_t SampleToken(const DeviceSamplingParams& params, std::span<const int32_t> history,
                    std::span<float> scores) {
  if (params.mode == SamplingMode::kNone) return kNoToken;
  if (!AllFinite(scores)) return kNotFinite;
  SamplingParams sampling;
  sampling.do_sample = params.mode == SamplingMode::kSample;
  sampling.temperature = params.temperature;
  sampling.top_k = params.top_k;
  sampling.top_p = params.top_p;
  sampling.min_p = params.min_p;
  sampling.typical_p = params.typical_p;
  sampling.repetition_penalty = params.repetition_penalty;
  sampling.presence_penalty = params.presence_penalty;
  sampling.frequency_penalty = params.frequency_penalty;
  sampling.no_repeat_ngram_size = params.no_repeat_ngram_size;
  for (int i = 0; i < params.banned_count; ++i) {
    sampling.bad_words_ids.push_back({params.banned[i]});
  }
  const auto prompt_length = static_cast<int64_t>(history.size()) - params.new_tokens;
  ApplyProcessors(sampling, history, prompt_length, scores);
  return PickToken(sampling, scores, params.uniform);
}

}  // namespace idefics
