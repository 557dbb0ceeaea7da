// SPDX-License-Identifier: Apache-2.0
// Logits processors against their formulas (docs/model.md#logits-processors), and the sampled
// distribution against softmax. Token parity with transformers is tests/model/test_parity.py.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <random>

#include "predictor/engine/token_search.h"
#include "predictor/sampling/logits_processors.h"

namespace idefics {
namespace {

constexpr float kOut = -std::numeric_limits<float>::infinity();

TEST_CASE("repetition penalty divides positive and multiplies negative scores once",
          "[processors]") {
  SamplingParams sampling;
  sampling.repetition_penalty = 2;
  std::vector<float> scores = {4, -4, 4, 0};
  ApplyProcessors(sampling, std::vector<int32_t>{0, 1, 0}, 1, scores);
  CHECK(scores == std::vector<float>{2, -8, 4, 0});
}

TEST_CASE("no-repeat-ngram bans what followed the same words before", "[processors]") {
  SamplingParams sampling;
  sampling.no_repeat_ngram_size = 2;
  std::vector<float> scores(5, 1.0f);
  ApplyProcessors(sampling, std::vector<int32_t>{1, 2, 1, 3, 1}, 0, scores);
  CHECK(scores == std::vector<float>{1, 1, kOut, kOut, 1});
}

TEST_CASE("a bad word of several tokens bans its last one only after the others", "[processors]") {
  SamplingParams sampling;
  sampling.bad_words_ids = {{1, 2}, {3}, {4}};
  sampling.eos_token_ids = {4};  // an eos among the bad words is not banned
  std::vector<float> scores(5, 1.0f);
  ApplyProcessors(sampling, std::vector<int32_t>{0, 0}, 0, scores);
  CHECK(scores == std::vector<float>{1, 1, 1, kOut, 1});
  ApplyProcessors(sampling, std::vector<int32_t>{0, 1}, 0, scores);
  CHECK(scores == std::vector<float>{1, 1, kOut, kOut, 1});
}

TEST_CASE("a bad word longer than the whole sequence is not looked for, as in transformers",
          "[processors]") {
  SamplingParams sampling;
  sampling.bad_words_ids = {{1, 2}, {3}};
  std::vector<float> scores(4, 1.0f);
  ApplyProcessors(sampling, std::vector<int32_t>{1}, 1, scores);
  CHECK(scores == std::vector<float>{1, 1, 1, kOut});
}

TEST_CASE("eos is banned until min_new_tokens are there", "[processors]") {
  SamplingParams sampling;
  sampling.min_new_tokens = 2;
  sampling.eos_token_ids = {0};
  std::vector<float> scores(2, 1.0f);
  ApplyProcessors(sampling, std::vector<int32_t>{1, 1}, 1, scores);
  CHECK(scores[0] == kOut);
  scores = {1, 1};
  ApplyProcessors(sampling, std::vector<int32_t>{1, 1, 1}, 1, scores);
  CHECK(scores[0] == 1);
}

TEST_CASE("top_k keeps ties of the k-th", "[processors]") {
  SamplingParams sampling;
  sampling.top_k = 2;
  std::vector<float> scores = {3, 1, 2, 2, 0};
  ApplyWarpers(sampling, 1, scores);
  CHECK(scores == std::vector<float>{3, kOut, 2, 2, kOut});
}

TEST_CASE("top_p keeps the smallest set that reaches its mass", "[processors]") {
  SamplingParams sampling;
  sampling.top_k = 0;
  std::vector<float> scores = {std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
  sampling.top_p = 0.79;
  auto kept = scores;
  ApplyWarpers(sampling, 1, kept);
  CHECK(kept[1] != kOut);
  CHECK(kept[2] == kOut);
  sampling.top_p = 0.0;  // greedy
  kept = scores;
  ApplyWarpers(sampling, 1, kept);
  CHECK(kept[0] != kOut);
  CHECK(kept[1] == kOut);
}

TEST_CASE("min_p is relative to the most likely token", "[processors]") {
  SamplingParams sampling;
  sampling.top_k = 0;
  sampling.min_p = 0.4;
  std::vector<float> scores = {std::log(0.5f), std::log(0.3f), std::log(0.19f), std::log(0.01f)};
  ApplyWarpers(sampling, 1, scores);
  CHECK(scores[1] != kOut);
  CHECK(scores[2] == kOut);
}

// Draws one token `count` times and returns chi-square against the expected probabilities.
double ChiSquare(SamplingParams sampling, const std::vector<float>& logits,
                 const std::vector<double>& expected, int count) {
  std::vector<int> drawn(logits.size(), 0);
  sampling.max_new_tokens = 1;
  for (int i = 0; i < count; ++i) {
    sampling.seed = 1000 + i;
    auto search = MakeTokenSearch(sampling, {0});
    search->Advance(logits, static_cast<int64_t>(logits.size()));
    ++drawn.at(search->new_tokens()[0]);
  }
  double chi = 0;
  for (size_t t = 0; t < expected.size(); ++t) {
    if (expected[t] == 0) {
      REQUIRE(drawn[t] == 0);
      continue;
    }
    const double mean = expected[t] * count;
    chi += (drawn[t] - mean) * (drawn[t] - mean) / mean;
  }
  return chi;
}

TEST_CASE("sampled tokens follow the softmax of the processed scores", "[sampling]") {
  SamplingParams sampling;
  sampling.do_sample = true;
  sampling.top_k = 0;
  std::mt19937 random(1);
  std::vector<float> logits(20);
  for (float& l : logits) l = std::normal_distribution<float>(0, 1.5)(random);
  SECTION("temperature") { sampling.temperature = 0.7; }
  SECTION("top_k") { sampling.top_k = 5; }
  SECTION("top_p") { sampling.top_p = 0.8; }
  SECTION("typical_p") { sampling.typical_p = 0.6; }
  std::vector<float> scores = logits;
  ApplyWarpers(sampling, 1, scores);
  LogSoftmax(scores);
  std::vector<double> expected;
  int degrees = -1;
  for (const float s : scores) {
    expected.push_back(std::exp(static_cast<double>(s)));
    degrees += expected.back() > 0 ? 1 : 0;
  }
  const double chi = ChiSquare(sampling, logits, expected, 20000);
  // Wilson-Hilferty: the 99.99 % quantile of chi-square.
  const double h = 2.0 / (9.0 * degrees);
  const double limit = degrees * std::pow(1 - h + 3.719 * std::sqrt(h), 3);
  CHECK(chi < limit);
}

TEST_CASE("a seed gives the same tokens, another seed others", "[sampling]") {
  SamplingParams sampling;
  sampling.do_sample = true;
  sampling.max_new_tokens = 30;
  const std::vector<float> logits(100, 0.0f);
  const auto run = [&](uint64_t seed) {
    sampling.seed = seed;
    auto search = MakeTokenSearch(sampling, {0});
    while (!search->finished()) search->Advance(logits, 100);
    return search->new_tokens();
  };
  CHECK(run(1) == run(1));
  CHECK(run(1) != run(2));
}

TEST_CASE("log probabilities are of the processed scores, largest first", "[sampling]") {
  SamplingParams sampling;
  sampling.num_logprobs = 5;
  sampling.bad_words_ids = {{2}};
  auto search = MakeTokenSearch(sampling, {0});
  search->Advance(std::vector<float>{1, 2, 9, 0}, 4);
  REQUIRE(search->logprobs().size() == 1);
  const auto& top = search->logprobs()[0].top;
  REQUIRE(top.size() == 3);
  CHECK(top[0].first == 1);
  CHECK(top[0].second == Catch::Approx(-std::log(1 + std::exp(-1.0) + std::exp(-2.0))));
}

}  // namespace
}  // namespace idefics
