// SPDX-License-Identifier: Apache-2.0
// Requests that are made to cost more than they should.
#include <catch2/catch_test_macros.hpp>
#include <ctime>
#include <new>

#include "predictor/engine_predictor.h"
#include "tests/engine/engine_fixture.h"
#include "tests/text/vocabulary.h"

namespace idefics {
namespace {

class NoObserver final : public GenerateObserver {
  void OnText(const TextPiece&) override {}
};

double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

double SecondsOf(ToyEngine& toy, std::vector<int32_t> ends) {
  EngineRequest request = ToyRequest(1, 5, 60);
  request.sampling.num_beams = 8;
  request.sampling.eos_token_ids = std::move(ends);
  const double begun = CpuSeconds();
  CHECK(Collect(**toy.engine->Submit(std::move(request))).status.ok());
  return CpuSeconds() - begun;
}

TEST_CASE("an end token that is given many times costs what one costs", "[engine]") {
  ToyEngine toy;
  SecondsOf(toy, {7});
  const double once = SecondsOf(toy, {7});
  CHECK(SecondsOf(toy, std::vector<int32_t>(200'000, 7)) < 10 * once + 0.1);
}

TEST_CASE("a text that cannot fit is refused by its bytes, before it is tokenized", "[engine]") {
  RunnerLimits limits = ToyLimits();
  auto tokenizer = TinyTokenizer();
  limits.vocab_size = tokenizer->vocab_size();
  EngineOptions options;
  options.max_sequence_tokens = 64;
  const size_t longest = tokenizer->max_token_bytes();
  REQUIRE(longest > 0);
  const auto* words = tokenizer.get();
  EnginePredictorParts parts;
  parts.tokenizer = std::move(tokenizer);
  parts.engine = std::make_unique<Engine>(std::make_unique<ToyRunner>(limits), options);
  EnginePredictor predictor(std::move(parts));
  const auto generate = [&](size_t bytes) {
    GenerateRequest request;
    request.prompt = {PromptText{std::string(bytes, 'x'), SpecialText::kNone}};
    request.sampling.max_new_tokens = 8;
    NoObserver observer;
    return predictor.Generate(request, {}, observer).status;
  };
  const Status told_by_bytes = generate(64 * longest + 1);
  CHECK(told_by_bytes.code() == ErrorCode::kPromptTooLong);
  CHECK(told_by_bytes.message().find("bytes of text") != std::string::npos);
  CHECK(generate(64 * longest).message().find("bytes of text") == std::string::npos);
  constexpr size_t kMany = 1 << 20;
  double begun = CpuSeconds();
  BuildPrompt(*words,
              std::vector<PromptPiece>{PromptText{std::string(kMany, 'x'), SpecialText::kNone}},
              false);
  const double tokenized = CpuSeconds() - begun;
  begun = CpuSeconds();
  CHECK(generate(kMany).code() == ErrorCode::kPromptTooLong);
  CHECK(CpuSeconds() - begun < tokenized / 4);
}

TEST_CASE("an exception in the engine ends its requests and says so, and not the process",
          "[engine][fault]") {
  ToyEngine toy;
  toy.runner->set_fault([](int64_t) -> Status { throw std::bad_alloc(); });
  std::vector<std::shared_ptr<RequestHandle>> handles;
  for (int i = 0; i < 20; ++i) {
    auto handle = toy.engine->Submit(ToyRequest(i, 5, 20));
    if (handle.ok()) handles.push_back(*handle);
  }
  REQUIRE_FALSE(handles.empty());
  for (const auto& handle : handles) CHECK(Collect(*handle).status.code() == ErrorCode::kInternal);
  CHECK(toy.engine->stats().broken);
  CHECK(toy.engine->stats().running == 0);
  CHECK(toy.engine->stats().waiting == 0);
  while (toy.engine->Submit(ToyRequest(1, 5, 20)).ok()) std::this_thread::yield();
  CHECK(toy.engine->stats().turn_s == 0);
}

}  // namespace
}  // namespace idefics
