// SPDX-License-Identifier: Apache-2.0
// What a request of EnginePredictor shows: pieces of text and the tokens that they are made of.
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <map>
#include <thread>

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
  explicit ChoicesFixture(bool samples_on_device = false) {
    RunnerLimits limits = ToyLimits(samples_on_device);
    auto tokenizer = TinyTokenizer();
    limits.vocab_size = tokenizer->vocab_size();
    EnginePredictorParts parts;
    parts.tokenizer = std::move(tokenizer);
    EngineOptions options;
    options.max_num_seqs = 8;
    auto toy = std::make_unique<ToyRunner>(limits);
    runner = toy.get();
    parts.engine = std::make_unique<Engine>(std::move(toy), options);
    engine = parts.engine.get();
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

  void RequireAllFree() const {
    while (engine->stats().running > 0) std::this_thread::yield();
    CHECK(engine->stats().kv_tokens_used == 0);
  }

  std::unique_ptr<EnginePredictor> predictor;
  ToyRunner* runner = nullptr;  // engine thread's; read its counters only while the engine is idle
  Engine* engine = nullptr;
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

TEST_CASE_METHOD(ChoicesFixture, "a failure says which image of the prompt it is about",
                 "[choices]") {
  const auto image = [](const std::string& bytes) {
    PromptImage file;
    file.file = std::make_shared<const std::vector<uint8_t>>(bytes.begin(), bytes.end());
    return file;
  };
  GenerateRequest request = Request("the cat");
  request.prompt.emplace_back(image("P6 1 1 255\nabc"));
  request.prompt.emplace_back(image("no image"));
  const Status status = Generate(request).status;
  CHECK(status.item() == 1);
  CHECK(status.message().starts_with("image 2: "));
  CHECK(shown.choices.empty());
}

TEST_CASE_METHOD(ChoicesFixture, "max_new_tokens is cut to the context where it may be",
                 "[choices]") {
  GenerateRequest request = Request("the cat");
  request.sampling.eos_token_ids = {};
  request.sampling.max_new_tokens = 1 << 30;
  CHECK(Generate(request).status.code() == ErrorCode::kPromptTooLong);
  request.cut_to_context = true;
  const GenerateResult result = Generate(request);
  REQUIRE(result.status.ok());
  const size_t cached = ToyLimits().kv_tokens;
  CHECK(result.prompt_token_ids.size() + result.choices[0].token_ids.size() == cached);
  CHECK(result.choices[0].finish_reason == FinishReason::kLength);
}

TEST_CASE("choice i is what its seed gives alone, however many there are", "[choices]") {
  ChoicesFixture fixture(GENERATE(false, true));
  for (int seed = 0; seed < 25; ++seed) {
    GenerateRequest request = ChoicesFixture::Request("the cat");
    request.sampling.seed = seed == 0 ? ~uint64_t{0} : seed;
    request.sampling.max_new_tokens = 1 + seed * 2;
    if (seed % 3 == 0) request.sampling.stop = {"e", "a", "s"};
    if (seed % 4 == 0) request.sampling.num_logprobs = 2;
    if (seed % 5 == 0) request.sampling.frequency_penalty = 1.5;
    std::vector<Choice> alone;
    for (int i = 0; i < 5; ++i) {
      GenerateRequest one = request;
      one.sampling.seed = ChoiceSeed(*request.sampling.seed, i);
      alone.push_back(fixture.Generate(one).choices.at(0));
    }
    for (const int count : {2, 5}) {
      request.sampling.num_choices = count;
      const GenerateResult result = fixture.Generate(request);
      REQUIRE(result.status.ok());
      REQUIRE(result.choices.size() == static_cast<size_t>(count));
      for (int i = 0; i < count; ++i) {
        CAPTURE(seed, count, i);
        const Choice& choice = result.choices[i];
        const Shown::Seen& seen = fixture.shown.choices[i];
        CHECK(choice.token_ids == alone[i].token_ids);
        CHECK(choice.finish_reason == alone[i].finish_reason);
        CHECK(choice.full_text == alone[i].full_text);
        CHECK(choice.logprobs.size() == alone[i].logprobs.size());
        CHECK(seen.text == alone[i].text);
        CHECK(seen.tokens == WithoutEnd(choice, request.sampling));
        CHECK(seen.ends == std::vector{choice.finish_reason});
      }
    }
  }
  fixture.RequireAllFree();
}

TEST_CASE_METHOD(ChoicesFixture, "without sampling all choices are equal, and computed once",
                 "[choices]") {
  GenerateRequest request = Request("the cat");
  request.sampling.do_sample = false;
  request.sampling.num_beams = GENERATE(1, 3);
  const Choice alone = Generate(request).choices.at(0);
  RequireAllFree();
  const int64_t steps = runner->steps();
  request.sampling.num_choices = 20;  // more than there are places
  const GenerateResult result = Generate(request);
  RequireAllFree();
  CHECK(runner->steps() == 2 * steps);
  REQUIRE(result.choices.size() == 20);
  for (int i = 0; i < 20; ++i) {
    CHECK(result.choices[i].token_ids == alone.token_ids);
    CHECK(result.choices[i].text == alone.text);
    CHECK(shown.choices[i].text == alone.text);
    CHECK(shown.choices[i].ends == std::vector{alone.finish_reason});
  }
}

TEST_CASE_METHOD(ChoicesFixture, "choices that can never run are refused with the limit",
                 "[choices]") {
  GenerateRequest request = Request("the cat");
  request.sampling.num_choices = 9;
  const Status status = Generate(request).status;
  CHECK(status.code() == ErrorCode::kTooLarge);
  CHECK(status.message() == "num_choices is 9, the limit is 8 (--max-num-seqs)");
  request.sampling.num_choices = 8;
  request.sampling.max_new_tokens = 200;
  CHECK(Generate(request).status.message().find("use fewer choices") != std::string::npos);
  request.cut_to_context = true;
  CHECK(Generate(request).status.ok());
  for (const int count : {0, -1, 129}) {
    request.sampling.num_choices = count;
    CHECK(Generate(request).status.code() == ErrorCode::kInvalidInput);
    CHECK(shown.choices.empty());
  }
}

TEST_CASE("cancel ends all choices", "[choices]") {
  ChoicesFixture fixture(GENERATE(false, true));
  GenerateRequest request = ChoicesFixture::Request("the cat");
  request.sampling.eos_token_ids = {};
  request.sampling.seed = 1;
  request.sampling.num_choices = 4;
  class Canceling final : public GenerateObserver {
   public:
    void OnText(const TextPiece& piece) override {
      if (piece.choice == 2) source.request_stop();
    }
    void OnChoiceEnd(int choice, FinishReason reason) override { ends[choice] = reason; }
    std::stop_source source;
    std::map<int, FinishReason> ends;
  } observer;
  fixture.runner->set_observer([&, steps = 0](std::span<const StepRow>) mutable {
    while (++steps > 40 && !observer.source.stop_requested()) std::this_thread::yield();
  });
  const GenerateResult result =
      fixture.predictor->Generate(request, observer.source.get_token(), observer);
  CHECK(result.status.code() == ErrorCode::kCanceled);
  CHECK(observer.ends.size() == 4);
  for (const auto& [choice, reason] : observer.ends) CHECK(reason == FinishReason::kCanceled);
  fixture.RequireAllFree();
}

}  // namespace
}  // namespace idefics
