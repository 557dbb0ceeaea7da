// SPDX-License-Identifier: Apache-2.0
#include "predictor/engine/sample_search.h"

#include "predictor/sampling/device_sampling.h"
#include "predictor/sampling/logits_processors.h"

namespace idefics {

SampleSearch::SampleSearch(const SamplingParams& sampling, std::vector<int32_t> prompt)
    : sampling_(sampling),
      prompt_length_(static_cast<int64_t>(prompt.size())),
      tokens_(std::move(prompt)),
      random_(sampling.seed ? *sampling.seed : std::random_device{}()) {}

SearchStep SampleSearch::Advance(std::span<const float> logits, int64_t vocab) {
  const auto row = logits.first(vocab);
  scores_.assign(row.begin(), row.end());
  ApplyProcessors(sampling_, tokens_, prompt_length_, scores_);
  const int32_t token = PickToken(sampling_, scores_, NextUniform());
  if (sampling_.num_logprobs) {
    if (sampling_.logprobs_mode == LogprobsMode::kRaw) scores_.assign(row.begin(), row.end());
    LogSoftmax(scores_);
    logprobs_.push_back(LogprobsOf(token, scores_, *sampling_.num_logprobs));
  }
  Accept(token);
  if (finished_) return {};
  return {{0}, {token}};
}

DeviceSamplingParams SampleSearch::NextSamplingParams(int64_t in_flight) {
  const auto new_tokens = static_cast<int64_t>(new_tokens_.size()) + in_flight;
  return MakeDeviceSamplingParams(sampling_, new_tokens, NextUniform());
}

void SampleSearch::Accept(int32_t token) {
  tokens_.push_back(token);
  new_tokens_.push_back(token);
  if (sampling_.IsEos(token)) {
    finished_ = true;
    finish_reason_ = FinishReason::kEos;
  } else if (static_cast<int>(new_tokens_.size()) >= sampling_.max_new_tokens) {
    finished_ = true;
    finish_reason_ = FinishReason::kLength;
  }
}

}  // namespace idefics
