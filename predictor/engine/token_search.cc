// SPDX-License-Identifier: Apache-2.0
#include "predictor/engine/token_search.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/check.h"
#include "predictor/engine/beam_search.h"
#include "predictor/engine/sample_search.h"

namespace idefics {
namespace {

std::string FormatNumber(double value) {
  std::string text = std::to_string(value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

Status OutOfRange(const char* name, double value, const char* range) {
  return Status::InvalidInput(std::string(name) + " is " + FormatNumber(value) + ", it must be " +
                              range);
}

Status CheckProbabilities(const SamplingParams& s) {
  if (s.do_sample && !(s.temperature > 0)) {
    return Status::InvalidInput("temperature is " + FormatNumber(s.temperature) +
                                ", it must be greater than 0 when sampling (for the most likely "
                                "tokens use greedy decoding)");
  }
  if (!(s.top_p >= 0 && s.top_p <= 1)) return OutOfRange("top_p", s.top_p, "from 0 to 1");
  if (!(s.min_p >= 0 && s.min_p <= 1)) return OutOfRange("min_p", s.min_p, "from 0 to 1");
  if (!(s.typical_p > 0 && s.typical_p <= 1)) {
    return OutOfRange("typical_p", s.typical_p, "greater than 0 and at most 1");
  }
  if (!(s.repetition_penalty > 0) || !std::isfinite(s.repetition_penalty)) {
    return OutOfRange("repetition_penalty", s.repetition_penalty, "greater than 0");
  }
  for (const auto& [name, value] : {std::pair{"length_penalty", s.length_penalty},
                                    std::pair{"presence_penalty", s.presence_penalty},
                                    std::pair{"frequency_penalty", s.frequency_penalty}}) {
    if (!std::isfinite(value)) return OutOfRange(name, value, "a finite number");
  }
  return Status::Ok();
}

Status CheckIds(const SamplingParams& s, int32_t vocab_size) {
  const std::string range = "from 0 to " + std::to_string(vocab_size - 1);
  for (const auto& word : s.bad_words_ids) {
    if (word.empty()) return Status::InvalidInput("bad_words_ids holds an empty list");
    for (const int32_t id : word) {
      if (id < 0 || id >= vocab_size)
        return OutOfRange("a token of bad_words_ids", id, range.c_str());
    }
  }
  for (const int32_t id : s.eos_token_ids) {
    if (id < 0 || id >= vocab_size) return OutOfRange("eos_token_id", id, range.c_str());
  }
  for (const auto& [id, bias] : s.logit_bias) {
    if (id < 0 || id >= vocab_size) return OutOfRange("a token of logit_bias", id, range.c_str());
    if (!std::isfinite(bias)) return OutOfRange("a bias of logit_bias", bias, "a finite number");
  }
  return Status::Ok();
}

}  // namespace

DeviceSamplingParams TokenSearch::NextSamplingParams(int64_t /*in_flight*/) {
  IDEFICS_CHECK(can_sample_on_device());
  return {};
}

void TokenSearch::Accept(int32_t /*token*/) { IDEFICS_CHECK(can_sample_on_device()); }

Status CheckSampling(const SamplingParams& s, int32_t vocab_size) {
  if (s.max_new_tokens < 1) return OutOfRange("max_new_tokens", s.max_new_tokens, "at least 1");
  if (s.min_new_tokens < 0) return OutOfRange("min_new_tokens", s.min_new_tokens, "at least 0");
  if (s.min_new_tokens > s.max_new_tokens) {
    return Status::InvalidInput("min_new_tokens is " + std::to_string(s.min_new_tokens) +
                                ", it must not be greater than max_new_tokens (" +
                                std::to_string(s.max_new_tokens) + ")");
  }
  if (s.top_k < 0) return OutOfRange("top_k", s.top_k, "at least 0 (0 switches it off)");
  if (s.no_repeat_ngram_size < 0) {
    return OutOfRange("no_repeat_ngram_size", s.no_repeat_ngram_size, "at least 0");
  }
  if (s.num_beams < 1 || s.num_beams > 16) {
    return OutOfRange("num_beams", s.num_beams, "from 1 to 16");
  }
  if (s.num_choices < 1 || s.num_choices > 128) {
    return OutOfRange("num_choices", s.num_choices, "from 1 to 128");
  }
  if (s.num_logprobs && *s.num_logprobs < 0) {
    return OutOfRange("num_logprobs", *s.num_logprobs, "at least 0");
  }
  if (s.num_beams > 1 && s.do_sample) {
    return Status::InvalidInput(
        "num_beams is " + std::to_string(s.num_beams) +
        ", beam search does not sample: use greedy decoding, or num_beams 1");
  }
  RETURN_IF_ERROR(CheckProbabilities(s));
  return CheckIds(s, vocab_size);
}

TokenLogprobs LogprobsOf(int32_t token, std::span<const float> log_probabilities, int count) {
  TokenLogprobs logprobs;
  logprobs.logprob = log_probabilities[token];
  if (count == 0) return logprobs;
  std::vector<int32_t> order(log_probabilities.size());
  std::iota(order.begin(), order.end(), 0);
  const auto kept = std::min<size_t>(count, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(kept), order.end(),
                    [&](int32_t a, int32_t b) {
                      return log_probabilities[a] != log_probabilities[b]
                                 ? log_probabilities[a] > log_probabilities[b]
                                 : a < b;
                    });
  for (size_t i = 0; i < kept && std::isfinite(log_probabilities[order[i]]); ++i) {
    logprobs.top.emplace_back(order[i], log_probabilities[order[i]]);
  }
  return logprobs;
}

std::unique_ptr<TokenSearch> MakeTokenSearch(const SamplingParams& sampling,
                                             std::vector<int32_t> prompt) {
  if (sampling.num_beams > 1) return std::make_unique<BeamSearch>(sampling, std::move(prompt));
  return std::make_unique<SampleSearch>(sampling, std::move(prompt));
}

}  // namespace idefics
