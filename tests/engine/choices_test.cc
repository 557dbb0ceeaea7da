// SPDX-License-Identifier: Apache-2.0
// What a request of EnginePredictor shows: pieces of text and the tokens that they are made of.
#include <catch2/catch_test_macros.hpp>
#include <map>

#include "predictor/engine_predictor.h"
#include "tests/engine/engine_fixture.h"
#include "tests/text/vocabulary.h"

namespace idefics {
namespace {

// All that is shown of a request, by choice; checks what holds for each piece.
class Shown final : public GenerateObserver {
 public:
  struct Seen {
    std::string text;
    std::vector<int32_t> tokens;
    std::vector<float> logprobs;
    std::vector<FinishReason> ends;
    int num_empty = 0;
  };

  void OnText(const TextPiece& piece) override {
    Seen& seen = choices[piece.choice];
    CHECK(seen.ends.empty());
    CHECK(seen.num_empty == 0);  // an empty one is the last
    if (piece.text.empty()) {
      CHECK_FALSE(piece.token_ids.empty());
      ++seen.num_empty;
    }
    seen.text += piece.text;
    seen.tokens.insert(seen.tokens.end(), piece.token_ids.begin(), piece.token_ids.end());
    for (const TokenLogprobs& token : piece.logprobs) seen.logprobs.push_back(token.logprob);
  }
  void OnChoiceEnd(int choice, FinishReason reason) override {
    choices[choice].ends.push_back(reason);
  }

  std::map<int, Seen> choices;
};

class ChoicesFixture {
 public:
  ChoicesFixture() {
    RunnerLimits limits = ToyLimits();
    auto tokenizer = TinyTokenizer();
    limits.vocab_size = tokenizer->vocab_size();
    EnginePredictorParts parts;
    parts.tokenizer = std::move(tokenizer);
    parts.engine = std::make_unique<Engine>(std::make_unique<ToyRunner>(limits), EngineOptions{});
    predictor = std::make_unique<EnginePredictor>(std::move(parts));
  }

  static GenerateRequest Request(const std::string& text) {
    GenerateRequest request;
    request.prompt = {PromptText{text, SpecialText::kNone}};
    request.sampling.max_new_tokens = 60;
    request.sampling.eos_token_ids = {7, 100};
    request.sampling.do_sample = true;
    request.sampling.top_k = 0;
    request.sampling.temperature = 2.0;
    return request;
  }

  GenerateResult Generate(const GenerateRequest& request) {
    shown = {};
    return predictor->Generate(request, {}, shown);
  }

  std::unique_ptr<EnginePredictor> predictor;
  Shown shown;
};

// The tokens of a choice that pieces hold: all but its end token.
std::vector<int32_t> WithoutEnd(const Choice& choice, const SamplingParams& sampling) {
  std::vector<int32_t> tokens = choice.token_ids;
  if (!tokens.empty() && sampling.IsEos(tokens.back())) tokens.pop_back();
  return tokens;
}

TEST_CASE_METHOD(ChoicesFixture, "pieces make up the text, and each token is in one of them",
                 "[choices]") {
  std::map<FinishReason, int> ends;
  int num_empty = 0;
  for (int seed = 0; seed < 200; ++seed) {
    GenerateRequest request = Request("the " + std::to_string(seed));
    request.sampling.seed = seed;
    if (seed % 2 == 0) request.sampling.num_logprobs = seed % 3;
    if (seed % 3 == 0) request.sampling.stop = {"e", "ab"};
    request.sampling.include_stop_string = seed % 9 == 0;
    const GenerateResult result = Generate(request);
    REQUIRE(result.status.ok());
    REQUIRE(result.choices.size() == 1);
    REQUIRE(shown.choices.size() == 1);
    const Choice& choice = result.choices[0];
    const Shown::Seen& seen = shown.choices[0];
    CHECK(seen.text == choice.text);
    CHECK(seen.tokens == WithoutEnd(choice, request.sampling));
    CHECK(seen.ends == std::vector{choice.finish_reason});
    CHECK(seen.logprobs.size() == (request.sampling.num_logprobs ? seen.tokens.size() : 0));
    CHECK(choice.full_text.ends_with(choice.text));
    ++ends[choice.finish_reason];
    num_empty += seen.num_empty;
  }
  CHECK(ends[FinishReason::kEos] > 10);
  CHECK(ends[FinishReason::kLength] > 10);
  CHECK(ends[FinishReason::kStopString] > 10);
  CHECK(num_empty > 0);
}

TEST_CASE_METHOD(ChoicesFixture, "a stop string is in the text where it is asked for",
                 "[choices]") {
  GenerateRequest request = Request("the cat");
  request.sampling.stop = {"e"};
  int num_stopped = 0;
  for (int seed = 0; seed < 100; ++seed) {
    request.sampling.seed = seed;
    request.sampling.include_stop_string = false;
    const Choice without = Generate(request).choices[0];
    request.sampling.include_stop_string = true;
    const Choice with = Generate(request).choices[0];
    CHECK(with.finish_reason == without.finish_reason);
    CHECK(with.token_ids == without.token_ids);
    const bool stopped = with.finish_reason == FinishReason::kStopString;
    num_stopped += stopped ? 1 : 0;
    CHECK(with.text == without.text + (stopped ? "e" : ""));
    CHECK(with.full_text == without.full_text + (stopped ? "e" : ""));
  }
  CHECK(num_stopped > 10);
}

TEST_CASE_METHOD(ChoicesFixture, "max_new_tokens is cut to the context where it may be",
                 "[choices]") {
  GenerateRequest request = Request("the cat");
  request.sampling.eos_token_ids = {};
  request.sampling.max_new_tokens = 1 << 30;
  CHECK(Generate(request).status.code() == ErrorCode::kTooLarge);
  request.cut_to_context = true;
  const GenerateResult result = Generate(request);
  REQUIRE(result.status.ok());
  const size_t cached = ToyLimits().kv_tokens;
  CHECK(result.prompt_token_ids.size() + result.choices[0].token_ids.size() == cached);
  CHECK(result.choices[0].finish_reason == FinishReason::kLength);
}

}  // namespace
}  // namespace idefics
