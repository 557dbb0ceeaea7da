// SPDX-License-Identifier: Apache-2.0
// Several choices of a request in the engine: rows, places and tokens, on the exact ToyRunner.
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <map>
#include <set>
#include <thread>

#include "tests/engine/engine_fixture.h"

namespace idefics {
namespace {

TEST_CASE("a prompt of several choices runs once, and each choice ends by itself",
          "[choices][invariant.choices]") {
  constexpr int kPrompt = 40;
  std::map<int64_t, int> rows_of_extent;
  std::set<int64_t> shared_starts;
  int prompt_tokens = 0;
  std::vector<size_t> rows_of_step;
  EngineOptions options;
  options.max_num_seqs = 4;
  ToyEngine toy(options, ToyLimits(GENERATE(false, true)));
  toy.runner->set_observer([&](std::span<const StepRow> rows) {
    if (rows.empty()) return;  // a part of an image
    rows_of_step.push_back(rows.size());
    for (const StepRow& row : rows) {
      if (row.tokens.size() > 1) prompt_tokens += static_cast<int>(row.tokens.size());
      if (row.shared_tokens == 0) continue;
      CHECK(row.shared_tokens == kPrompt - 1);
      shared_starts.insert(row.shared_start);
      ++rows_of_extent[row.kv_start];
    }
  });
  EngineRequest request = ToyRequest(1, kPrompt, 30, 0);
  request.sampling.eos_token_ids = {7, 8, 9};
  request.sampling.do_sample = true;
  request.sampling.temperature = 3;
  request.sampling.seed = 3;
  request.sampling.num_choices = 4;
  const auto outcomes = CollectChoices(**toy.engine->Submit(request), 4);
  std::set<size_t> lengths;
  for (int i = 0; i < 4; ++i) {
    CHECK(outcomes[i].status.ok());
    const Outcome alone = RunFromScratch(ChoiceAlone(request, i));
    CHECK(outcomes[i].tokens == alone.tokens);
    CHECK(outcomes[i].reason == alone.reason);
    lengths.insert(alone.tokens.size());
  }
  CHECK(lengths.size() > 2);
  CHECK(prompt_tokens == kPrompt - 1);
  CHECK(shared_starts.size() == 1);
  CHECK(rows_of_extent.size() == 4);
  CHECK(toy.runner->images_encoded() == 1);
  CHECK(rows_of_step.back() < 4);
  CHECK(toy.engine->stats().kv_tokens_used == 0);
}

TEST_CASE("the place of a choice that ended goes to the next request", "[choices]") {
  const bool drops = GENERATE(false, true);
  EngineOptions options;
  options.max_num_seqs = 2;
  std::atomic<bool> goes_on = !drops;
  bool beside = false;  // the other's prompt ran in a step of the first one's
  RunnerLimits limits = ToyLimits(GENERATE(false, true));
  limits.kv_tokens = 9 + 2 * 61;  // what the two choices take
  ToyEngine toy(options, limits);
  toy.runner->set_observer([&, steps = 0](std::span<const StepRow> rows) mutable {
    while (++steps > 5 && !goes_on) std::this_thread::yield();
    bool first = false, other = false;
    for (const StepRow& row : rows) {
      first = first || row.shared_tokens > 0;
      other = other || row.tokens.size() == 3;
    }
    beside = beside || (first && other);
  });
  EngineRequest request = ToyRequest(1, 10, 60);
  request.sampling.do_sample = true;
  request.sampling.eos_token_ids = {};
  request.sampling.seed = 5;
  request.sampling.num_choices = 2;
  auto handle = *toy.engine->Submit(request);
  auto next = *toy.engine->Submit(ToyRequest(2, 3, 5));
  if (drops) {
    TokenEvent event;
    while (event.choice != 1) {
      REQUIRE(handle->Next(&event, RequestHandle::Clock::now() + std::chrono::hours(1)));
    }
    handle->DropChoice(1);
    goes_on = true;
  }
  const auto outcomes = CollectChoices(*handle, 2);
  CHECK(outcomes[0].status.ok());
  CHECK(outcomes[0].reason == FinishReason::kLength);
  CHECK(Collect(*next).tokens == RunFromScratch(ToyRequest(2, 3, 5)).tokens);
  CHECK(beside == drops);
}

TEST_CASE("choices do not depend on their neighbours, nor these on them",
          "[choices][contract.alone]") {
  const bool samples_on_device = GENERATE(false, true);
  CAPTURE(samples_on_device);
  std::mt19937 random(4);
  for (int pattern = 0; pattern < 150; ++pattern) {
    EngineOptions options;
    options.max_num_seqs = 4 + static_cast<int>(random() % 5);
    options.max_num_batched_tokens = 1 + static_cast<int>(random() % 50);
    ToyEngine toy(options, ToyLimits(samples_on_device));
    const int64_t fault = static_cast<int64_t>(random() % 3);
    toy.runner->set_fault([fault](int64_t step) {
      const bool fails = fault == 1 && step % 7 == 0;
      return fails ? Status(ErrorCode::kOutOfMemory, "no room") : Status::Ok();
    });
    std::vector<EngineRequest> requests;
    std::vector<std::shared_ptr<RequestHandle>> handles;
    for (int i = 0; i < 4; ++i) {
      EngineRequest request =
          ToyRequest(static_cast<int>(random()), 1 + static_cast<int>(random() % 20),
                     1 + static_cast<int>(random() % 20), static_cast<int>(random() % 5) - 1);
      SamplingParams& sampling = request.sampling;
      sampling.do_sample = true;
      sampling.eos_token_ids = {7, 8, 9};
      sampling.seed = random();
      sampling.num_choices = 1 + static_cast<int>(random() % 4);
      if (random() % 3 == 0) sampling.presence_penalty = 0.7;
      if (random() % 3 == 0) sampling.no_repeat_ngram_size = 2;
      if (random() % 4 == 0) sampling.logit_bias = {{3, 2.0F}, {4, -3.0F}};
      requests.push_back(request);
      handles.push_back(*toy.engine->Submit(request));
    }
    for (size_t r = 0; r < requests.size(); ++r) {
      const int count = requests[r].sampling.num_choices;
      const auto outcomes = CollectChoices(*handles[r], count);
      for (int i = 0; i < count; ++i) {
        const Outcome alone = RunFromScratch(ChoiceAlone(requests[r], i));
        if (outcomes[i].status.code() == ErrorCode::kOutOfMemory) {  // alone in its step
          CHECK(fault == 1);
          CHECK(std::equal(outcomes[i].tokens.begin(), outcomes[i].tokens.end(),
                           alone.tokens.begin()));
          continue;
        }
        REQUIRE(outcomes[i].status.ok());
        REQUIRE(outcomes[i].tokens == alone.tokens);
        REQUIRE(outcomes[i].reason == alone.reason);
      }
    }
    while (toy.engine->stats().running > 0) std::this_thread::yield();
    CHECK(toy.engine->stats().kv_tokens_used == 0);
    if (samples_on_device) CHECK(toy.runner->max_in_flight() > 0);
  }
}

}  // namespace
}  // namespace idefics
