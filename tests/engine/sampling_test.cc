// SPDX-License-Identifier: Apache-2.0
// Logits processors against their formulas (docs/model.md#logits-processors), and the sampled
// distribution against softmax. Token parity with transformers is tests/model/test_parity.py.
#include <algorithm>
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

TEST_CASE("presence and frequency penalties are those of OpenAI's formula, of new tokens only",
          "[processors]") {
  std::mt19937 random(3);
  std::normal_distribution<float> logit(0, 3);
  for (int round = 0; round < 200; ++round) {
    SamplingParams sampling;
    // logit - count · frequency - (count > 0) · presence, in numbers that f32 holds exactly
    sampling.presence_penalty = static_cast<double>(random() % 17) / 8 - 1;
    sampling.frequency_penalty = static_cast<double>(random() % 17) / 8 - 1;
    std::vector<int32_t> tokens(40);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 20);
    const auto prompt = static_cast<int64_t>(random() % 41);
    std::vector<float> scores(20);
    for (float& score : scores) score = logit(random);
    std::vector<float> expected = scores;
    for (int32_t token = 0; token < 20; ++token) {
      const auto count = std::count(tokens.begin() + prompt, tokens.end(), token);
      const double penalty = static_cast<double>(count) * sampling.frequency_penalty +
                             (count > 0 ? sampling.presence_penalty : 0);
      expected[token] = static_cast<float>(expected[token] - penalty);
    }
    ApplyProcessors(sampling, tokens, prompt, scores);
    REQUIRE(scores == expected);
  }
}

TEST_CASE("a bias is added before the penalties, and bans stay bans", "[processors]") {
  SamplingParams sampling;
  sampling.logit_bias = {{0, 3.0F}, {1, -5.0F}, {2, 100.0F}, {3, 100.0F}};
  sampling.repetition_penalty = 2;
  sampling.bad_words_ids = {{2}};
  sampling.eos_token_ids = {3};
  sampling.min_new_tokens = 1;
  std::vector<float> scores = {1, 1, 1, 1, 1};
  ApplyProcessors(sampling, std::vector<int32_t>{0, 1}, 2, scores);
  CHECK(scores == std::vector<float>{2, -8, kOut, kOut, 1});
}

TEST_CASE("a device takes penalties, but no bias and no log probabilities", "[sampling]") {
  SamplingParams sampling;
  sampling.presence_penalty = 1;
  sampling.frequency_penalty = -0.5;
  CHECK(CanSampleOnDevice(sampling));
  const DeviceSamplingParams params = MakeDeviceSamplingParams(sampling, 3, 0);
  CHECK(params.presence_penalty == 1.0F);
  CHECK(params.frequency_penalty == -0.5F);
  CHECK(params.new_tokens == 3);
  SamplingParams logprobs = sampling;
  logprobs.num_logprobs = 0;
  CHECK_FALSE(CanSampleOnDevice(logprobs));
  sampling.logit_bias = {{1, 1.0F}};
  CHECK_FALSE(CanSampleOnDevice(sampling));
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

TEST_CASE("raw log probabilities are the model's, whatever the request asks for", "[sampling]") {
  std::mt19937 random(5);
  std::normal_distribution<float> logit(0, 4);
  for (int round = 0; round < 100; ++round) {
    std::vector<float> logits(300);
    for (float& score : logits) score = logit(random);
    double total = 0;
    for (const float score : logits) total += std::exp(static_cast<double>(score));
    SamplingParams sampling;
    sampling.logprobs_mode = LogprobsMode::kRaw;
    sampling.num_logprobs = round % 4;
    sampling.seed = round;
    sampling.do_sample = round % 2 == 0;
    sampling.num_beams = round % 3 == 1 && !sampling.do_sample ? 3 : 1;
    sampling.temperature = 0.5;
    sampling.top_k = 20;
    sampling.presence_penalty = 1;
    sampling.repetition_penalty = 1.5;
    sampling.max_new_tokens = 1;
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    sampling.bad_words_ids = {{static_cast<int32_t>(best)}};
    sampling.logit_bias = {{11, 5.0F}};
    auto search = MakeTokenSearch(sampling, {1, 2});
    search->Advance(logits, 300);
    REQUIRE(search->logprobs().size() == 1);
    const TokenLogprobs& logprobs = search->logprobs()[0];
    const int32_t token = search->new_tokens()[0];
    const auto expected = [&](int32_t id) { return logits[id] - std::log(total); };
    CHECK(logprobs.logprob == Catch::Approx(expected(token)).margin(1e-5));
    REQUIRE(logprobs.top.size() == static_cast<size_t>(round % 4));
    if (round % 4 > 0) CHECK(logprobs.top[0].first == best);
    for (const auto& [id, value] : logprobs.top) {
      CHECK(value == Catch::Approx(expected(id)).margin(1e-5));
    }
  }
}

}  // namespace
}  // namespace idefics
