// SPDX-License-Identifier: Apache-2.0
// The engine's contract (predictor/engine/README.md), rule by rule, on the exact ToyRunner.
#include "predictor/engine/engine.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <future>
#include <latch>
#include <thread>

#include "tests/engine/engine_fixture.h"

namespace idefics {
namespace {

void RequireBooksBalance(const Engine& engine) {
  while (engine.stats().running + engine.stats().waiting > 0) {  // ctest has the time limit
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(engine.stats().kv_tokens_used == 0);
}

EngineRequest RandomRequest(std::mt19937& random) {
  EngineRequest request =
      ToyRequest(static_cast<int>(random()), 1 + static_cast<int>(random() % 40),
                 1 + static_cast<int>(random() % 30), static_cast<int>(random() % 7) - 1);
  SamplingParams& sampling = request.sampling;
  switch (random() % 6) {
    case 0:
      sampling.num_beams = 2 + static_cast<int>(random() % 2);
      break;
    case 1:
      sampling.do_sample = true;
      sampling.temperature = 0.7;
      sampling.seed = random();
      break;
    case 2:
      sampling.repetition_penalty = 1.3;
      sampling.min_new_tokens = std::min(4, sampling.max_new_tokens);
      break;
    case 3:
      sampling.num_logprobs = 2;  // it cannot be sampled on the device
      sampling.bad_words_ids = {{3}, {4, 5}};
      break;
    default:
      break;
  }
  return request;
}

TEST_CASE("a request's tokens do not depend on its neighbours or on when they arrive",
          "[engine][contract.alone]") {
  const bool samples_on_device = GENERATE(false, true);
  CAPTURE(samples_on_device);
  std::mt19937 random(1);
  for (int pattern = 0; pattern < 500; ++pattern) {
    EngineOptions options;
    options.max_num_seqs = 3 + static_cast<int>(random() % 6);
    options.max_num_batched_tokens = 1 + static_cast<int>(random() % 50);
    ToyEngine together(options, ToyLimits(samples_on_device));
    std::vector<EngineRequest> requests;
    std::vector<std::shared_ptr<RequestHandle>> handles;
    const int count = 1 + static_cast<int>(random() % 6);
    for (int i = 0; i < count; ++i) {
      requests.push_back(RandomRequest(random));
      auto handle = together.engine->Submit(requests.back());
      REQUIRE(handle.ok());
      handles.push_back(*handle);
      if (random() % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 200));
    }
    for (int i = 0; i < count; ++i) {
      const Outcome batched = Collect(*handles[i]);
      const Outcome alone = RunFromScratch(requests[i]);
      REQUIRE(batched.status.ok());
      REQUIRE(batched.tokens == alone.tokens);
      REQUIRE(batched.reason == alone.reason);
    }
    RequireBooksBalance(*together.engine);
  }
}

TEST_CASE("requests run in one step together", "[engine]") {
  ToyEngine toy;
  std::latch all_submitted(1);  // the first step waits, however slowly the others come
  toy.runner->set_observer([&](std::span<const StepRow>) { all_submitted.wait(); });
  std::vector<std::shared_ptr<RequestHandle>> handles;
  for (int i = 0; i < 4; ++i) {
    EngineRequest request = ToyRequest(i, 5, 100);
    request.sampling.eos_token_ids = {};
    handles.push_back(*toy.engine->Submit(std::move(request)));
  }
  all_submitted.count_down();
  for (auto& handle : handles) CHECK(Collect(*handle).tokens.size() == 100);
  RequireBooksBalance(*toy.engine);
  CHECK(toy.runner->max_rows_seen() == 4);
  CHECK(toy.engine->stats().steps < 4 * 100);
}

TEST_CASE("an image that was seen before is not encoded again", "[engine][image-cache]") {
  ToyEngine toy;
  for (int i = 0; i < 3; ++i) {
    CHECK(Collect(**toy.engine->Submit(ToyRequest(i, 10, 3, /*image=*/1))).status.ok());
  }
  RequireBooksBalance(*toy.engine);
  CHECK(toy.runner->images_encoded() == 1);
  CHECK(toy.engine->stats().image_hits == 2);
}

TEST_CASE("an image changes the tokens of those who see it", "[engine]") {
  EngineRequest first = ToyRequest(3, 10, 20, 1);
  EngineRequest second = ToyRequest(3, 10, 20, 2);
  CHECK(RunFromScratch(first).tokens != RunFromScratch(second).tokens);
}

TEST_CASE("cancel ends a request at any time with a last event and frees its place", "[engine]") {
  const bool samples_on_device = GENERATE(false, true);
  ToyEngine toy({}, ToyLimits(samples_on_device));
  std::mt19937 random(5);
  for (int i = 0; i < 200; ++i) {
    EngineRequest request = ToyRequest(i, 20, 200);
    request.sampling.eos_token_ids = {};
    auto handle = *toy.engine->Submit(std::move(request));
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
    handle->Cancel();
    const Outcome outcome = Collect(*handle);
    CHECK((outcome.reason == FinishReason::kCanceled || outcome.reason == FinishReason::kLength));
  }
  RequireBooksBalance(*toy.engine);
}

TEST_CASE("more requests than places wait and all finish", "[engine]") {
  EngineOptions options;
  options.max_num_seqs = 2;
  ToyEngine toy(options);
  std::vector<std::shared_ptr<RequestHandle>> handles;
  for (int i = 0; i < 40; ++i) handles.push_back(*toy.engine->Submit(ToyRequest(i, 8, 20, i % 6)));
  for (auto& handle : handles) CHECK(Collect(*handle).status.ok());
  RequireBooksBalance(*toy.engine);
  CHECK(toy.runner->max_rows_seen() <= 2);
}

TEST_CASE("out of memory in a batch runs it in halves and loses no token", "[engine][fault]") {
  const bool samples_on_device = GENERATE(false, true);
  ToyEngine toy({}, ToyLimits(samples_on_device));
  std::vector<EngineRequest> requests;
  for (int i = 0; i < 4; ++i) requests.push_back(ToyRequest(i, 6, 25));
  std::vector<Outcome> alone;
  for (const auto& request : requests) alone.push_back(RunFromScratch(request));
  std::atomic<int> failures = 0;
  toy.runner->set_fault([&](int64_t step) {
    if (step % 5 != 0) return Status::Ok();
    ++failures;
    return Status(ErrorCode::kOutOfMemory, "no room");
  });
  std::vector<std::shared_ptr<RequestHandle>> handles;
  for (const auto& request : requests) handles.push_back(*toy.engine->Submit(request));
  int finished = 0;
  for (size_t i = 0; i < handles.size(); ++i) {
    const Outcome outcome = Collect(*handles[i]);
    if (!outcome.status.ok()) {  // it was the only one left in its step
      CHECK(outcome.status.code() == ErrorCode::kOutOfMemory);
      continue;
    }
    ++finished;
    CHECK(outcome.tokens == alone[i].tokens);
  }
  CHECK(failures > 0);
  RequireBooksBalance(*toy.engine);
}

TEST_CASE("a failed step ends its requests with what the steps before gave, and the engine goes on",
          "[engine][fault]") {
  const bool samples_on_device = GENERATE(false, true);
  ToyEngine toy({}, ToyLimits(samples_on_device));
  toy.runner->set_fault([](int64_t step) {
    return step == 3 ? Status::Internal("the device is gone") : Status::Ok();
  });
  EngineRequest request = ToyRequest(1, 5, 50);
  request.sampling.eos_token_ids = {};
  const Outcome whole = RunFromScratch(request);
  const Outcome failed = Collect(**toy.engine->Submit(request));
  CHECK(failed.status.code() == ErrorCode::kInternal);
  CHECK(failed.tokens == std::vector(whole.tokens.begin(), whole.tokens.begin() + 2));
  CHECK(Collect(**toy.engine->Submit(request)).tokens == whole.tokens);
  RequireBooksBalance(*toy.engine);
}

TEST_CASE("a step that fails at its end ends its requests, also where the next one runs already",
          "[engine][fault]") {
  ToyEngine toy({}, ToyLimits(/*samples_on_device=*/true));
  toy.runner->set_late_fault([](int64_t step) {
    return step == 3 ? Status::Internal("the device is gone") : Status::Ok();
  });
  EngineRequest request = ToyRequest(1, 5, 50);
  request.sampling.eos_token_ids = {};
  const Outcome failed = Collect(**toy.engine->Submit(request));
  CHECK(failed.status.code() == ErrorCode::kInternal);
  CHECK(failed.tokens.size() == 2);
  CHECK(Collect(**toy.engine->Submit(request)).tokens == RunFromScratch(request).tokens);
  RequireBooksBalance(*toy.engine);
}

TEST_CASE("where the runner samples, a step starts before the tokens of the last are seen",
          "[engine][contract.ahead]") {
  EngineRequest request = ToyRequest(1, 5, 40);
  request.sampling.eos_token_ids = {};
  const Outcome alone = RunFromScratch(request);
  SECTION("and none is run for a token that nobody wants") {
    ToyEngine toy({}, ToyLimits(/*samples_on_device=*/true));
    CHECK(Collect(**toy.engine->Submit(request)).tokens == alone.tokens);
    RequireBooksBalance(*toy.engine);
    CHECK(toy.runner->max_in_flight() == 2);
    CHECK(toy.runner->steps() == 40);
  }
  SECTION("but for the one after an end that only the token tells") {
    request.sampling.eos_token_ids = {alone.tokens[9]};
    const Outcome ended = RunFromScratch(request);
    ToyEngine toy({}, ToyLimits(/*samples_on_device=*/true));
    const Outcome outcome = Collect(**toy.engine->Submit(request));
    CHECK(outcome.tokens == ended.tokens);
    CHECK(outcome.reason == FinishReason::kEos);
    RequireBooksBalance(*toy.engine);
    CHECK(toy.runner->steps() == static_cast<int64_t>(ended.tokens.size()) + 1);
  }
  SECTION("not beside a request that the host samples") {
    request.sampling.num_logprobs = 1;
    ToyEngine toy({}, ToyLimits(/*samples_on_device=*/true));
    CHECK(Collect(**toy.engine->Submit(request)).tokens == alone.tokens);
    CHECK(toy.runner->max_in_flight() == 1);
  }
}

TEST_CASE("a runner that broke for good is reported before the failed request ends",
          "[engine][fault]") {
  ToyEngine toy;
  toy.runner->set_fault([&](int64_t) {
    toy.runner->set_broken();
    return Status::Internal("the device fell off the bus");
  });
  CHECK_FALSE(toy.engine->stats().broken);
  CHECK_FALSE(Collect(**toy.engine->Submit(ToyRequest(1, 5, 50))).status.ok());
  CHECK(toy.engine->stats().broken);
}

TEST_CASE("a step that takes long is reported while it runs, and an idle engine reports none",
          "[engine][fault]") {
  ToyEngine toy;
  std::atomic<bool> in_step = false, go_on = false;
  toy.runner->set_fault([&](int64_t) {
    in_step = true;
    while (!go_on) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return Status::Ok();
  });
  CHECK(toy.engine->stats().turn_s == 0);
  const auto handle = *toy.engine->Submit(ToyRequest(1, 5, 3));
  while (!in_step) std::this_thread::yield();
  const double early = toy.engine->stats().turn_s;
  CHECK(early > 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  CHECK(toy.engine->stats().turn_s >= early + 0.01);
  go_on = true;
  CHECK(Collect(*handle).status.ok());
  RequireBooksBalance(*toy.engine);
  while (toy.engine->stats().turn_s > 0) std::this_thread::yield();
}

TEST_CASE("a request that could never run is refused with the limit and its flag", "[engine]") {
  ToyEngine toy;
  SECTION("too long for one request") {
    const auto refused = toy.engine->Submit(ToyRequest(1, 10, 5000));
    REQUIRE(!refused.ok());
    CHECK(refused.status().code() == ErrorCode::kPromptTooLong);
    CHECK(refused.status().message().find("--max-sequence-tokens") != std::string::npos);
  }
  SECTION("too long for the arena") {
    const auto refused = toy.engine->Submit(ToyRequest(1, 10, 700));
    REQUIRE(!refused.ok());
    CHECK(refused.status().message().find("--kv-tokens") != std::string::npos);
  }
  SECTION("values out of range") {
    EngineRequest request = ToyRequest(1, 10, 5);
    SECTION("temperature") {
      request.sampling.do_sample = true;
      request.sampling.temperature = 0;
    }
    SECTION("bad word") { request.sampling.bad_words_ids = {{kToyVocab}}; }
    SECTION("empty bad word") { request.sampling.bad_words_ids = {{}}; }
    SECTION("eos") { request.sampling.eos_token_ids = {-1}; }
    SECTION("beams") { request.sampling.num_beams = 0; }
    const auto refused = toy.engine->Submit(std::move(request));
    REQUIRE(!refused.ok());
    CHECK(refused.status().code() == ErrorCode::kInvalidInput);
  }
}

TEST_CASE("destroying the engine ends running and waiting requests with kCanceled", "[engine]") {
  std::vector<std::shared_ptr<RequestHandle>> handles;
  {
    EngineOptions options;
    options.max_num_seqs = 1;
    ToyEngine toy(options);
    for (int i = 0; i < 3; ++i) {
      EngineRequest request = ToyRequest(i, 5, 500);
      request.sampling.eos_token_ids = {};
      handles.push_back(*toy.engine->Submit(std::move(request)));
    }
  }
  for (auto& handle : handles) {
    const Outcome outcome = Collect(*handle);
    CHECK((outcome.status.code() == ErrorCode::kCanceled || outcome.tokens.size() == 500));
  }
}

}  // namespace
}  // namespace idefics
