// SPDX-License-Identifier: Apache-2.0
// How images are encoded beside the steps: in parts of about a step's time by the toy runner's
// simulated clock, and in batches where the runner takes several.
#include <algorithm>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <thread>
#include <vector>

#include "tests/engine/engine_fixture.h"

namespace idefics {
namespace {

using std::chrono::milliseconds;
using Duration = ImagePace::Duration;

// A call of the runner: the simulated time at which it began, and its rows.
struct Call {
  Duration began;
  size_t rows;  // 0: a part of images
};

// The engine's thread writes; read once the engine is idle.
std::vector<Call> Watch(ToyEngine& toy, const EngineRequest& running, EngineRequest arrival) {
  std::vector<Call> calls;
  std::atomic<bool> watching = false, submitted = false, canceled = false;
  int steps = 0;
  toy.runner->set_observer([&](std::span<const StepRow> rows) {
    if (watching) calls.push_back({toy.runner->elapsed(), rows.size()});
    ++steps;  // the running row waits for this thread
    while ((steps > 1'000 && !submitted) || (steps > 20'000 && !canceled)) {
      std::this_thread::yield();
    }
  });
  auto first = *toy.engine->Submit(running);
  TokenEvent event;
  (void)first->Next(&event, RequestHandle::Clock::now() + std::chrono::hours(1));
  watching = true;
  const auto second = *toy.engine->Submit(std::move(arrival));
  submitted = true;
  CHECK(Collect(*second).status.ok());
  watching = false;
  first->Cancel();
  canceled = true;
  CHECK(Collect(*first).reason == FinishReason::kCanceled);  // it ran all the while
  return calls;
}

TEST_CASE("a running row waits for an image no longer than a step or a unit",
          "[engine][contract.delay]") {
  struct Case {
    int step, unit;
    size_t units;
  };
  for (const Case& it : {Case{20, 5, 34}, Case{270, 40, 34}, Case{2, 7, 10}, Case{1000, 1, 34}}) {
    CAPTURE(it.step, it.unit, it.units);
    const ToyTimes times{milliseconds(it.step), milliseconds(it.unit), it.units};
    RunnerLimits limits = ToyLimits();
    limits.kv_tokens = 50'000;
    EngineOptions options;
    options.max_sequence_tokens = 40'000;
    ToyEngine toy(options, limits, times);
    // The first image and its answer show what both take.
    EngineRequest shows = ToyRequest(1, 10, 5, 0);
    shows.sampling.eos_token_ids = {};
    CHECK(Collect(**toy.engine->Submit(shows)).status.ok());
    EngineRequest running = ToyRequest(2, 5, 30'000);
    running.sampling.eos_token_ids = {};
    const std::vector<Call> calls = Watch(toy, running, ToyRequest(3, 10, 3, 1));
    const Duration most = std::max(times.step, times.image_unit);
    int parts = 0;
    for (size_t i = 0; i + 1 < calls.size(); ++i) {
      if (calls[i].rows > 0) continue;
      ++parts;
      CHECK(calls[i + 1].rows > 0);  // never two parts without the running row
      CHECK(calls[i + 1].began - calls[i].began <= most);
    }
    // Nor are there more parts than that takes.
    const auto a_part = std::max<int64_t>(1, it.step / it.unit);
    CHECK(parts == (static_cast<int64_t>(it.units) + a_part - 1) / a_part);
  }
}

// Requests with an image each, all there before the first step.
std::vector<std::shared_ptr<RequestHandle>> SubmitTogether(ToyEngine& toy, int count,
                                                           std::atomic<bool>* go_on) {
  std::vector<std::shared_ptr<RequestHandle>> handles;
  for (int i = 0; i < count; ++i) {
    handles.push_back(*toy.engine->Submit(ToyRequest(i, 10, 5, i)));
    while (handles[0]->admitted_at() == RequestHandle::Clock::time_point{}) {
      std::this_thread::yield();
    }
  }
  *go_on = true;
  return handles;
}

RunnerLimits InBatches(int32_t most) {
  RunnerLimits limits = ToyLimits();
  limits.image_cache_slots = 16;
  limits.max_image_batch = most;
  return limits;
}

TEST_CASE("images that wait are encoded together, as many as the runner takes",
          "[engine][contract.images]") {
  ToyEngine toy({}, InBatches(4));
  std::atomic<bool> go_on = false;
  toy.runner->set_observer([&](std::span<const StepRow>) {
    while (!go_on) std::this_thread::yield();
  });
  const auto handles = SubmitTogether(toy, 8, &go_on);
  for (int i = 0; i < 8; ++i) {
    CHECK(Collect(*handles[i]).tokens == RunFromScratch(ToyRequest(i, 10, 5, i)).tokens);
  }
  CHECK(toy.runner->images_encoded() == 8);
  CHECK(toy.runner->image_batches() == 3);  // the first began before the others came
}

TEST_CASE("where a batch of images fails, only the request fails whose image does alone",
          "[engine][fault]") {
  constexpr int kFirst = kToyImageParts;  // parts of the first image, which is alone
  for (const bool also_alone : {false, true}) {
    CAPTURE(also_alone);
    ToyEngine toy({}, InBatches(4));
    std::atomic<bool> go_on = false;
    int parts = 0;
    toy.runner->set_observer([&](std::span<const StepRow>) {
      while (!go_on) std::this_thread::yield();
    });
    toy.runner->set_image_fault([&](int32_t) {
      ++parts;
      const bool fails = parts == kFirst + 1 || (also_alone && parts == kFirst + 2);
      return fails ? Status(ErrorCode::kOutOfMemory, "no room") : Status::Ok();
    });
    const auto handles = SubmitTogether(toy, 5, &go_on);
    for (int i = 0; i < 5; ++i) {
      const Outcome outcome = Collect(*handles[i]);
      const bool failed = also_alone && i == 1;  // the first one that is encoded again
      CHECK(outcome.status.code() == (failed ? ErrorCode::kOutOfMemory : ErrorCode::kOk));
      if (!failed) CHECK(outcome.tokens == RunFromScratch(ToyRequest(i, 10, 5, i)).tokens);
    }
    CHECK(toy.runner->images_encoded() == (also_alone ? 4 : 5));
    CHECK(toy.engine->stats().kv_tokens_used == 0);
  }
}

TEST_CASE("who leaves in the midst of a batch leaves the others in it",
          "[engine][contract.images]") {
  ToyEngine toy({}, InBatches(4));
  std::atomic<bool> go_on = false;
  std::shared_ptr<RequestHandle> leaves;
  int parts = 0;
  toy.runner->set_observer([&](std::span<const StepRow> rows) {
    while (!go_on) std::this_thread::yield();
    if (rows.empty() && ++parts == kToyImageParts + 1) leaves->Cancel();
  });
  std::vector<std::shared_ptr<RequestHandle>> handles;
  for (int i = 0; i < 5; ++i) handles.push_back(*toy.engine->Submit(ToyRequest(i, 10, 5, i)));
  leaves = handles[2];
  go_on = true;
  for (int i = 0; i < 5; ++i) {
    const Outcome outcome = Collect(*handles[i]);
    if (i == 2) continue;
    CHECK(outcome.tokens == RunFromScratch(ToyRequest(i, 10, 5, i)).tokens);
  }
  CHECK(Collect(**toy.engine->Submit(ToyRequest(2, 10, 5, 2))).tokens ==
        RunFromScratch(ToyRequest(2, 10, 5, 2)).tokens);
}

}  // namespace
}  // namespace idefics
