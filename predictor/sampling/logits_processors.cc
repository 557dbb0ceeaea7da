// SPDX-License-Identifier: Apache-2.0
#include "predictor/sampling/logits_processors.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <vector>

namespace idefics {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();

void Ban(std::span<float> scores, int32_t token) {
  if (token >= 0 && static_cast<size_t>(token) < scores.size()) scores[token] = kBanned;
}

void PenalizeRepetition(float penalty, std::span<const int32_t> tokens, std::span<float> scores) {
  std::vector<bool> seen(scores.size(), false);
  for (const int32_t token : tokens) {
    if (token < 0 || static_cast<size_t>(token) >= scores.size() || seen[token]) continue;
    seen[token] = true;
    scores[token] = scores[token] < 0 ? scores[token] * penalty : scores[token] / penalty;
  }
}

// Of new tokens only. In f64, so that a device that fuses its products gets the same bits.
void PenalizePresence(const SamplingParams& sampling, std::span<const int32_t> new_tokens,
                      std::span<float> scores) {
  std::map<int32_t, int> counts;
  for (const int32_t token : new_tokens) ++counts[token];
  const auto presence = static_cast<float>(sampling.presence_penalty);
  const auto frequency = static_cast<float>(sampling.frequency_penalty);
  for (const auto& [token, count] : counts) {
    if (token < 0 || static_cast<size_t>(token) >= scores.size()) continue;
    const double penalty = static_cast<double>(frequency) * count + static_cast<double>(presence);
    scores[token] = static_cast<float>(static_cast<double>(scores[token]) - penalty);
  }
}

// Bans each token that followed an earlier occurrence of the last n-1 tokens.
void BanRepeatedNgrams(int64_t n, std::span<const int32_t> tokens, std::span<float> scores) {
  const auto length = static_cast<int64_t>(tokens.size());
  if (length + 1 < n) return;
  const auto tail = tokens.subspan(length - (n - 1));
  for (int64_t i = 0; i + n <= length; ++i) {
    if (std::equal(tail.begin(), tail.end(), tokens.begin() + i)) Ban(scores, tokens[i + n - 1]);
  }
}

void BanBadWords(const SamplingParams& sampling, std::span<const int32_t> tokens,
                 std::span<float> scores) {
  for (const auto& word : sampling.bad_words_ids) {
    if (word.size() == 1 && sampling.IsEos(word[0])) continue;
    // transformers compares with the whole word's length, so a sequence that is shorter than the
    // word never completes it.
    if (word.size() > 1 && word.size() > tokens.size()) continue;
    const size_t prefix = word.size() - 1;
    if (std::equal(word.begin(), word.end() - 1, tokens.end() - static_cast<ptrdiff_t>(prefix))) {
      Ban(scores, word.back());
    }
  }
}

// Indices of the scores that are not banned, largest first; ties in index order.
std::vector<int32_t> Descending(std::span<const float> scores) {
  std::vector<int32_t> order;
  order.reserve(scores.size());
  for (size_t i = 0; i < scores.size(); ++i) {
    if (scores[i] != kBanned) order.push_back(static_cast<int32_t>(i));
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  return order;
}

// Softmax over all scores in f32, with an f64 sum.
std::vector<float> Probabilities(std::span<const float> scores) {
  std::vector<float> p(scores.begin(), scores.end());
  LogSoftmax(p);
  for (float& x : p) x = std::exp(x);
  return p;
}

void KeepTopK(int64_t k, std::span<float> scores) {
  if (k >= static_cast<int64_t>(scores.size())) return;
  std::vector<float> sorted(scores.begin(), scores.end());
  std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<>());
  const float threshold = sorted[k - 1];
  for (float& s : scores) {
    if (s < threshold) s = kBanned;
  }
}

// Removes the least likely tokens whose cumulative probability is at most 1 - top_p.
void KeepTopP(double top_p, int64_t keep, std::span<float> scores) {
  const auto order = Descending(scores);
  const auto p = Probabilities(scores);
  const float limit = static_cast<float>(1.0 - top_p);
  double cumulative = 0;
  for (size_t i = order.size(); i-- > static_cast<size_t>(keep);) {
    cumulative += p[order[i]];
    if (static_cast<float>(cumulative) > limit) return;
    scores[order[i]] = kBanned;
  }
}

void KeepMinP(double min_p, int64_t keep, std::span<float> scores) {
  const auto order = Descending(scores);
  if (order.empty()) return;
  const auto p = Probabilities(scores);
  const float threshold = static_cast<float>(min_p) * p[order[0]];
  for (size_t i = static_cast<size_t>(keep); i < order.size(); ++i) {
    if (p[order[i]] < threshold) scores[order[i]] = kBanned;
  }
}

// Locally typical sampling (arXiv 2202.00666).
void KeepTypical(double mass, int64_t keep, std::span<float> scores) {
  std::vector<float> log_p(scores.begin(), scores.end());
  LogSoftmax(log_p);
  double entropy = 0;
  for (const float l : log_p) {
    if (l != kBanned) entropy -= std::exp(static_cast<double>(l)) * l;
  }
  auto order = Descending(scores);
  const auto distance = [&](int32_t i) {
    return std::abs(-log_p[i] - static_cast<float>(entropy));
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return distance(a) < distance(b); });
  double cumulative = 0;
  size_t last = 0;  // number of tokens whose cumulative mass is below `mass`
  while (last < order.size()) {
    cumulative += std::exp(static_cast<double>(log_p[order[last]]));
    if (static_cast<float>(cumulative) >= static_cast<float>(mass)) break;
    ++last;
  }
  if (order.empty()) return;
  last = std::min(last, order.size() - 1);
  // Everything further from the entropy than token `last` is removed.
  const float limit = distance(order[last]);
  for (size_t i = static_cast<size_t>(keep); i < order.size(); ++i) {
    if (distance(order[i]) > limit) scores[order[i]] = kBanned;
  }
}

}  // namespace

void ApplyProcessors(const SamplingParams& sampling, std::span<const int32_t> tokens,
                     int64_t prompt_length, std::span<float> scores) {
  for (const auto& [token, bias] : sampling.logit_bias) scores[token] += bias;
  if (sampling.repetition_penalty != 1.0) {
    PenalizeRepetition(static_cast<float>(sampling.repetition_penalty), tokens, scores);
  }
  if (sampling.presence_penalty != 0 || sampling.frequency_penalty != 0) {
    PenalizePresence(sampling, tokens.subspan(prompt_length), scores);
  }
  if (sampling.no_repeat_ngram_size > 0) {
    BanRepeatedNgrams(sampling.no_repeat_ngram_size, tokens, scores);
  }
  BanBadWords(sampling, tokens, scores);
  if (static_cast<int64_t>(tokens.size()) - prompt_length < sampling.min_new_tokens) {
    for (const int32_t eos : sampling.eos_token_ids) Ban(scores, eos);
  }
}

void ApplyWarpers(const SamplingParams& sampling, int64_t min_tokens_to_keep,
                  std::span<float> scores) {
  if (sampling.temperature != 1.0) {
    for (float& s : scores) s /= static_cast<float>(sampling.temperature);
  }
  if (sampling.top_k > 0) {
    KeepTopK(std::max<int64_t>(sampling.top_k, min_tokens_to_keep), scores);
  }
  if (sampling.top_p < 1.0) KeepTopP(sampling.top_p, min_tokens_to_keep, scores);
  if (sampling.min_p > 0.0) KeepMinP(sampling.min_p, min_tokens_to_keep, scores);
  if (sampling.typical_p < 1.0) KeepTypical(sampling.typical_p, min_tokens_to_keep, scores);
}

void LogSoftmax(std::span<float> scores) {
  const float largest = *std::max_element(scores.begin(), scores.end());
  if (largest == kBanned) return;
  double sum = 0;
  for (const float s : scores) sum += std::exp(s - largest);
  const float log_sum = static_cast<float>(std::log(sum));
  for (float& s : scores) s = s - largest - log_sum;
}

}  // namespace idefics
