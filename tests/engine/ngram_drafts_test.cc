// SPDX-License-Identifier: Apache-2.0
// Guessed tokens: fewer steps where an answer repeats what came before, the same tokens always.
#include "predictor/engine/ngram_drafts.h"

#include <catch2/catch_test_macros.hpp>
#include <functional>
#include <optional>
#include <random>
#include <thread>

#include "tests/engine/engine_fixture.h"

namespace idefics {
namespace {

// The guesses of the first step that may cost them.
std::vector<int32_t> Guessed(NgramDrafts& drafts, int64_t most = 9) {
  std::vector<int32_t> guesses;
  for (int i = 0; i < 10 && guesses.empty(); ++i) guesses = drafts.Guess(most);
  return guesses;
}

TEST_CASE("what followed the same tokens is guessed, as far as it is worth", "[drafts]") {
  NgramDrafts drafts;
  drafts.Add(std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 2});
  CHECK(Guessed(drafts).empty());  // these two never came
  drafts.Add(std::vector<int32_t>{3});
  CHECK(Guessed(drafts) == std::vector<int32_t>{4});
  CHECK(drafts.Guess(0).empty());
  for (int i = 0; i < 20; ++i) drafts.Learn(1, 1);
  CHECK(drafts.Guess(9) == std::vector<int32_t>{4, 5, 6, 7, 8, 9, 10});
  CHECK(drafts.Guess(2) == std::vector<int32_t>{4, 5});
  SECTION("the last time counts") {
    drafts.Add(std::vector<int32_t>{44, 45, 2, 3});
    CHECK(drafts.Guess(2) == std::vector<int32_t>{44, 45});
  }
  SECTION("but where three tokens came before, not the last two alone") {
    drafts.Add(std::vector<int32_t>{44, 45, 1, 2, 3});
    CHECK(drafts.Guess(1) == std::vector<int32_t>{4});
  }
  SECTION("what goes round is guessed to go on") {
    drafts.Add(std::vector<int32_t>{44, 45, 44, 45});
    CHECK(drafts.Guess(5) == std::vector<int32_t>{44, 45, 44, 45, 44});
  }
  SECTION("wrong guesses end them, but for one now and then") {
    for (int i = 0; i < 20; ++i) drafts.Learn(3, 0);
    int guesses = 0;
    for (int i = 0; i < 320; ++i) guesses += static_cast<int>(drafts.Guess(9).size());
    CHECK(guesses == 10);
  }
}

// Steps of plain decoding that `count` tokens take with guesses, where each costs what it costs at
// most. next: gives the token that follows, told what is guessed to be.
double StepsWithGuesses(int count, const std::function<int32_t(std::optional<int32_t>)>& next) {
  NgramDrafts drafts;
  double cost = 0;
  for (int made = 0; made < count;) {
    const std::vector<int32_t> guesses = drafts.Guess(count - made - 1);
    size_t right = 0;
    for (bool goes_on = true; goes_on; ++made) {
      const bool is_guessed = right < guesses.size();
      const int32_t token = next(is_guessed ? std::optional(guesses[right]) : std::nullopt);
      goes_on = is_guessed && token == guesses[right];
      right += goes_on ? 1 : 0;
      drafts.Add(std::span(&token, 1));
    }
    if (!guesses.empty()) drafts.Learn(guesses.size(), right);
    cost += 1 + NgramDrafts::kCost * static_cast<double>(guesses.size());
  }
  return cost;
}

TEST_CASE("guesses cost three in a hundred steps at most, however the text misleads them",
          "[drafts][contract.drafts]") {
  std::mt19937 random(3);
  for (const int count : {1, 10, 20, 200, 2000}) {
    CAPTURE(count);
    const auto never = [&](std::optional<int32_t> guess) {  // few tokens, so that all grams come
      const auto token = static_cast<int32_t>(random() % 3);
      return token == guess ? (token + 1) % 3 : token;
    };
    CHECK(StepsWithGuesses(count, never) <= count / 0.97);
    int made = 0;
    const auto first_only = [&](std::optional<int32_t> guess) {  // then never again
      return ++made < count / 2 ? made % 4 : never(guess);
    };
    CHECK(StepsWithGuesses(count, first_only) <= count / 0.97);
    const auto by_chance = [&](std::optional<int32_t>) {
      return static_cast<int32_t>(random() % 3);
    };
    CHECK(StepsWithGuesses(count, by_chance) <= count / 0.97);
  }
}

TEST_CASE("guesses save most steps of a list, and many of a dialogue",
          "[drafts][contract.drafts]") {
  constexpr int kCount = 200;
  constexpr int kPhrase = 6;
  std::mt19937 random(3);
  int made = 0;
  int32_t phrase = 0;
  const auto list = [&](std::optional<int32_t>) { return made++ % (4 * kPhrase); };
  CHECK(StepsWithGuesses(kCount, list) < kCount / 2.0);
  made = 0;
  const auto dialogue = [&](std::optional<int32_t>) {  // eight phrases in random order
    if (made % kPhrase == 0) phrase = static_cast<int32_t>(random() % 8);
    return kPhrase * phrase + made++ % kPhrase;
  };
  CHECK(StepsWithGuesses(kCount, dialogue) < kCount / 1.3);
}

// Prefers the token that followed when the last one came before: its answers repeat themselves.
EngineRequest Repeating(int seed, int max_new_tokens) {
  EngineRequest request = ToyRequest(seed, 20, max_new_tokens);
  request.sampling.eos_token_ids = {};
  for (int32_t token = 0; token < kToyVocab; ++token) {
    if (token % 16 != 3) request.sampling.logit_bias.emplace_back(token, -100.0F);
  }
  return request;
}

TEST_CASE("guesses change no token, greedy or sampled, and save steps where text repeats",
          "[drafts][contract.drafts]") {
  int64_t right = 0;
  for (int seed = 0; seed < 200; ++seed) {
    EngineRequest request = Repeating(seed, 1 + seed);
    request.sampling.do_sample = seed % 2 == 1;
    request.sampling.seed = seed;
    if (seed % 5 == 0) request.sampling.num_logprobs = 2;
    if (seed % 7 == 0) request.sampling.repetition_penalty = 1.2;
    if (seed % 3 == 0) request.sampling.eos_token_ids = {19};
    ToyEngine toy;
    const Outcome outcome = Collect(**toy.engine->Submit(request));
    const Outcome alone = RunFromScratch(request);
    REQUIRE(outcome.tokens == alone.tokens);
    REQUIRE(outcome.reason == alone.reason);
    while (toy.engine->stats().running > 0) std::this_thread::yield();
    const EngineStats stats = toy.engine->stats();
    right += stats.guesses_right;
    REQUIRE(stats.steps == static_cast<int64_t>(outcome.tokens.size()) - stats.guesses_right);
  }
  CHECK(right > 300);
}

TEST_CASE("nothing is guessed beside two others, for beams, or where it is switched off",
          "[drafts][contract.drafts]") {
  EngineOptions options;
  EngineRequest request = Repeating(3, 60);
  size_t together = 1;
  SECTION("beside two others") { together = 3; }
  SECTION("for beams") { request.sampling.num_beams = 2; }
  SECTION("switched off") { options.speculation = false; }
  ToyEngine toy(options);
  std::atomic<bool> submitted = false;
  toy.runner->set_observer([&](std::span<const StepRow> rows) {
    while (!submitted) std::this_thread::yield();
    for (const StepRow& row : rows) CHECK((row.position == 0 || row.tokens.size() == 1));
  });
  std::vector<std::shared_ptr<RequestHandle>> handles;
  for (size_t i = 0; i < together; ++i) handles.push_back(*toy.engine->Submit(request));
  submitted = true;
  for (const auto& handle : handles) {
    CHECK(Collect(*handle).tokens == RunFromScratch(request).tokens);
  }
  CHECK(toy.engine->stats().guesses_right == 0);
}

}  // namespace
}  // namespace idefics
