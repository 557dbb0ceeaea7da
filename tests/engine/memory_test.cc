// SPDX-License-Identifier: Apache-2.0
// What a request holds while it runs: extents that grow, move and are given back, and images while
// its prompt needs them. On the exact ToyRunner.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <mutex>
#include <thread>

#include "tests/engine/engine_fixture.h"

namespace idefics {
namespace {

EngineRequest Endless(int seed, int length, int max_new_tokens, int image = -1) {
  EngineRequest request = ToyRequest(seed, length, max_new_tokens, image);
  request.sampling.eos_token_ids = {};
  return request;
}

// `count` images from `first` on, each seen by `tokens_each` tokens of the prompt.
EngineRequest ManyImages(int seed, int first, int count, int tokens_each, int max_new_tokens) {
  EngineRequest request = Endless(seed, count * tokens_each, max_new_tokens);
  for (int i = 0; i < count; ++i) request.images.push_back(ToyImage(first + i));
  for (size_t t = 0; t < request.tokens.size(); ++t) {
    request.image_index[t] = static_cast<int32_t>(t) / tokens_each;
  }
  return request;
}

void WaitUntilIdle(const Engine& engine) {
  while (engine.stats().running + engine.stats().waiting > 0) std::this_thread::yield();
}

// The extents from which the sequence with a prompt of `prompt` tokens was decoded, in order.
class ExtentsOf {
 public:
  explicit ExtentsOf(int prompt) : prompt_(prompt) {}
  void See(std::span<const StepRow> rows) {
    for (const StepRow& row : rows) {
      if (row.position < prompt_) continue;
      if (starts_.empty() || starts_.back() != row.kv_start) starts_.push_back(row.kv_start);
    }
  }
  const std::vector<int64_t>& starts() const { return starts_; }

 private:
  const int prompt_;
  std::vector<int64_t> starts_;
};

TEST_CASE("a request begins with a few slots for its answer, and four times as many fit",
          "[memory][contract.growth]") {
  constexpr int kPrompt = 60;
  constexpr int kMaxNew = 512;
  EngineOptions options;
  options.max_num_seqs = 100;
  RunnerLimits limits = ToyLimits();
  limits.kv_tokens = 16 * (kPrompt + kMaxNew);
  ToyEngine toy(options, limits);
  std::vector<EngineRequest> requests;
  std::vector<std::shared_ptr<RequestHandle>> handles;
  std::atomic<bool> submitted = false;
  toy.runner->set_observer([&](std::span<const StepRow>) {
    while (!submitted) std::this_thread::yield();
  });
  for (int i = 0; i < 90; ++i) {
    EngineRequest request = Endless(i, kPrompt, kMaxNew);
    const std::vector<int32_t> tokens = RunFromScratch(Endless(i, kPrompt, 30)).tokens;
    request.sampling.eos_token_ids = {tokens[29]};  // about 30 are used
    handles.push_back(*toy.engine->Submit(request));
    requests.push_back(std::move(request));
  }
  submitted = true;
  for (size_t i = 0; i < handles.size(); ++i) CHECK(Collect(*handles[i]).status.ok());
  WaitUntilIdle(*toy.engine);
  CHECK(toy.runner->max_rows_seen() >= 4 * 16);
  CHECK(toy.engine->stats().preemptions == 0);
}

TEST_CASE("an extent grows where it is while the slots behind it are free, and else moves",
          "[memory][contract.growth]") {
  const bool samples_on_device = GENERATE(false, true);
  constexpr int kPrompt = 10;
  constexpr int kMaxNew = 400;
  RunnerLimits limits = ToyLimits(samples_on_device);
  limits.kv_tokens = 2000;
  ExtentsOf long_one(kPrompt);
  std::mutex mutex;
  ToyEngine toy({}, limits);
  std::atomic<bool> go_on = false;
  toy.runner->set_observer([&](std::span<const StepRow> rows) {
    while (!go_on) std::this_thread::yield();
    const std::lock_guard lock(mutex);
    std::vector<StepRow> first;
    for (const StepRow& row : rows) {
      if (row.position > 0 && row.tokens.size() == 1) first.push_back(row);
      break;
    }
    long_one.See(first);
  });
  EngineRequest request = Endless(1, kPrompt, kMaxNew);
  request.sampling.repetition_penalty = 1.3;  // a sampling device reads the tokens behind the keys
  auto handle = *toy.engine->Submit(request);
  const bool has_neighbour = GENERATE(false, true);
  if (has_neighbour) (void)*toy.engine->Submit(Endless(2, 20, 300));
  go_on = true;
  CHECK(Collect(*handle).tokens == RunFromScratch(request).tokens);
  WaitUntilIdle(*toy.engine);
  if (has_neighbour) {
    CHECK(long_one.starts().size() > 1);
  } else {
    CHECK(long_one.starts() == std::vector<int64_t>{0});
  }
  CHECK(toy.engine->stats().preemptions == 0);
}

TEST_CASE("where there is no room the youngest gives its own back, and all tokens are the same",
          "[memory][contract.preempt]") {
  const bool samples_on_device = GENERATE(false, true);
  RunnerLimits limits = ToyLimits(samples_on_device);
  limits.kv_tokens = 400;
  ToyEngine toy({}, limits);
  std::vector<EngineRequest> requests;
  std::vector<std::shared_ptr<RequestHandle>> handles;
  for (int i = 0; i < 4; ++i) {
    EngineRequest request = Endless(i, 10 + i, 300, i);
    request.sampling.do_sample = i % 2 == 1;
    request.sampling.seed = i;
    handles.push_back(*toy.engine->Submit(request));
    requests.push_back(std::move(request));
  }
  for (size_t i = 0; i < handles.size(); ++i) {
    const Outcome outcome = Collect(*handles[i]);
    CHECK(outcome.status.ok());
    CHECK(outcome.tokens == RunFromScratch(requests[i]).tokens);
  }
  WaitUntilIdle(*toy.engine);
  CHECK(toy.engine->stats().preemptions > 0);
  CHECK(toy.engine->stats().kv_tokens_used == 0);
}

TEST_CASE("a request whose greatest length is the whole arena runs beside others",
          "[memory][contract.preempt]") {
  const bool samples_on_device = GENERATE(false, true);
  RunnerLimits limits = ToyLimits(samples_on_device);
  limits.kv_tokens = 200;
  ToyEngine toy({}, limits);
  std::vector<EngineRequest> requests;
  std::vector<std::shared_ptr<RequestHandle>> handles;
  for (int i = 0; i < 6; ++i) {
    const int prompt = 5 + 11 * i;
    requests.push_back(Endless(i, prompt, 200 - prompt));
    handles.push_back(*toy.engine->Submit(requests.back()));
  }
  for (size_t i = 0; i < handles.size(); ++i) {
    CHECK(Collect(*handles[i]).tokens == RunFromScratch(requests[i]).tokens);
  }
  CHECK(toy.engine->stats().preemptions > 0);
}

TEST_CASE("beams and choices hold all their slots from the first on and are never preempted",
          "[memory][contract.preempt]") {
  RunnerLimits limits = ToyLimits();
  limits.kv_tokens = 260;
  ToyEngine toy({}, limits);
  EngineRequest beams = Endless(1, 10, 60);
  beams.sampling.num_beams = 2;
  EngineRequest grows = Endless(2, 10, 200);
  std::atomic<bool> go_on = false;
  toy.runner->set_observer([&](std::span<const StepRow>) {
    while (!go_on) std::this_thread::yield();
  });
  auto older = *toy.engine->Submit(grows);
  auto younger = *toy.engine->Submit(beams);
  go_on = true;
  CHECK(Collect(*younger).tokens == RunFromScratch(beams).tokens);
  CHECK(Collect(*older).tokens == RunFromScratch(grows).tokens);
}

TEST_CASE("a prompt with more images than slots runs piece by piece",
          "[memory][contract.pictures]") {
  const bool samples_on_device = GENERATE(false, true);
  RunnerLimits limits = ToyLimits(samples_on_device);
  limits.image_cache_slots = GENERATE(1, 2, 5);
  ToyEngine toy({}, limits);
  const EngineRequest request = ManyImages(1, 0, 9, 5, 20);
  CHECK(Collect(**toy.engine->Submit(request)).tokens == RunFromScratch(request).tokens);
  CHECK(toy.runner->images_encoded() == 9);
  SECTION("also as choices") {
    EngineRequest choices = ManyImages(2, 20, 9, 5, 20);
    choices.images.push_back(ToyImage(50));
    choices.image_index.back() = 9;  // only the last token sees it
    choices.sampling.do_sample = true;
    choices.sampling.seed = 4;
    choices.sampling.num_choices = 2;
    const auto outcomes = CollectChoices(**toy.engine->Submit(choices), 2);
    for (int i = 0; i < 2; ++i) {
      CHECK(outcomes[i].tokens == RunFromScratch(ChoiceAlone(choices, i)).tokens);
    }
  }
}

TEST_CASE("prompts of 32 images of different users run at once", "[memory][contract.pictures]") {
  constexpr int kUsers = 4;
  RunnerLimits limits = ToyLimits();
  limits.kv_tokens = 4000;
  limits.image_cache_slots = 8;
  EngineOptions options;
  options.max_num_seqs = kUsers;
  ToyEngine toy(options, limits);
  std::atomic<bool> go_on = false;
  toy.runner->set_observer([&](std::span<const StepRow>) {
    while (!go_on) std::this_thread::yield();
  });
  std::vector<EngineRequest> requests;
  std::vector<std::shared_ptr<RequestHandle>> handles;
  for (int i = 0; i < kUsers; ++i) {
    requests.push_back(ManyImages(i, 32 * i, 32, 3, 450));
    handles.push_back(*toy.engine->Submit(requests.back()));
  }
  go_on = true;
  for (int i = 0; i < kUsers; ++i) {
    CHECK(Collect(*handles[i]).tokens == RunFromScratch(requests[i]).tokens);
  }
  WaitUntilIdle(*toy.engine);
  CHECK(toy.runner->max_rows_seen() == kUsers);
}

TEST_CASE("after its prompt a request keeps only the image that its last token sees",
          "[memory][contract.pictures]") {
  RunnerLimits limits = ToyLimits();
  limits.image_cache_slots = 3;
  ToyEngine toy({}, limits);
  std::atomic<int64_t> steps = 0, allowed = 50;
  toy.runner->set_fault([&](int64_t step) {
    steps = step;
    while (step > allowed) std::this_thread::yield();
    return Status::Ok();
  });
  const EngineRequest first = ManyImages(1, 0, 3, 5, 300);
  auto running = *toy.engine->Submit(first);
  while (steps < 50) std::this_thread::yield();
  auto next = toy.engine->Submit(ManyImages(2, 10, 2, 5, 3));
  allowed = 200;
  CHECK(Collect(**next).tokens == RunFromScratch(ManyImages(2, 10, 2, 5, 3)).tokens);
  allowed = 1000;
  CHECK(Collect(*running).tokens == RunFromScratch(first).tokens);
}

}  // namespace
}  // namespace idefics
