// SPDX-License-Identifier: Apache-2.0
// The rules of predictor/engine/README.md about who runs when, watched from inside the runner.
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <mutex>
#include <set>
#include <thread>

#include "tests/engine/engine_fixture.h"

namespace idefics {
namespace {

// What one call of the runner had: a step's rows, or a part of an image (no rows at all).
struct Call {
  int decode_rows = 0;
  int prompt_tokens = 0;
  bool image_part() const { return decode_rows + prompt_tokens == 0; }
};

// The calls in order. The engine thread writes; read once the engine is idle.
class Calls {
 public:
  explicit Calls(bool slow = false) : slow_(slow) {}

  void Watch(ToyRunner* runner) {
    runner->set_observer([this](std::span<const StepRow> rows) {
      Call call;
      for (const StepRow& row : rows) {
        const bool decode = row.tokens.size() == 1 && row.wants_logits && row.position > 0;
        (decode ? call.decode_rows : call.prompt_tokens) += static_cast<int>(row.tokens.size());
      }
      const std::lock_guard lock(mutex_);
      calls_.push_back(call);
      threads_.insert(std::this_thread::get_id());
      if (slow_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
  }
  std::vector<Call> all() const {
    const std::lock_guard lock(mutex_);
    return calls_;
  }
  size_t count() const { return all().size(); }
  std::set<std::thread::id> threads() const {
    const std::lock_guard lock(mutex_);
    return threads_;
  }

 private:
  const bool slow_;
  mutable std::mutex mutex_;
  std::vector<Call> calls_;
  std::set<std::thread::id> threads_;
};

EngineRequest Endless(int seed, int length, int max_new_tokens, int image = -1) {
  EngineRequest request = ToyRequest(seed, length, max_new_tokens, image);
  request.sampling.eos_token_ids = {};
  return request;
}

void WaitForTokens(RequestHandle& handle, size_t count) {
  size_t seen = 0;
  TokenEvent event;
  while (seen < count && handle.Next(&event, RequestHandle::Clock::now() + std::chrono::hours(1)))
    seen += event.tokens.size();
}

TEST_CASE("an arrival delays a decode row by one step with few prompt tokens and one image part",
          "[engine][contract.delay]") {
  EngineOptions options;
  options.max_prefill_chunk = 4;
  options.max_sequence_tokens = 40'000;
  RunnerLimits limits = ToyLimits();
  limits.kv_tokens = 50'000;
  ToyEngine toy(options, limits);
  Calls calls(/*slow=*/true);
  calls.Watch(toy.runner);
  auto running = *toy.engine->Submit(Endless(1, 5, 30'000));  // 30 s: it will not end by itself
  WaitForTokens(*running, 3);
  std::vector<std::shared_ptr<RequestHandle>> arrivals;
  for (int i = 0; i < 3; ++i) arrivals.push_back(*toy.engine->Submit(Endless(i, 33, 3, i)));
  for (auto& arrival : arrivals) CHECK(Collect(*arrival).status.ok());
  const std::vector<Call> seen = calls.all();
  running->Cancel();
  REQUIRE(Collect(*running).reason == FinishReason::kCanceled);  // it ran all the while

  int image_parts = 0;
  int since_decode = 0;
  bool decoding = false;
  for (const Call& call : seen) {
    decoding = decoding || call.decode_rows > 0;
    if (!decoding) continue;
    image_parts += call.image_part() ? 1 : 0;
    since_decode = call.decode_rows > 0 ? 0 : since_decode + 1;
    CHECK(since_decode <= 1);  // never two calls without the running row
    CHECK(call.prompt_tokens <= 4);
    CHECK((call.image_part() || call.decode_rows >= 1));
  }
  CHECK(image_parts == 3 * kToyImageParts);
}

TEST_CASE("alone, a prompt takes whole steps", "[engine][contract.delay]") {
  EngineOptions options;
  options.max_prefill_chunk = 4;
  options.max_num_batched_tokens = 20;
  ToyEngine toy(options);
  Calls calls;
  calls.Watch(toy.runner);
  CHECK(Collect(**toy.engine->Submit(Endless(1, 33, 1))).status.ok());
  const std::vector<Call> all = calls.all();
  REQUIRE(all.size() == 2);
  CHECK(all[0].prompt_tokens == 20);
  CHECK(all[1].prompt_tokens == 13);
}

TEST_CASE("only one thread calls the runner", "[engine][ownership.device]") {
  ToyEngine toy;
  Calls calls;
  calls.Watch(toy.runner);
  std::vector<std::jthread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back(
        [&toy, i] { (void)Collect(**toy.engine->Submit(ToyRequest(i, 9, 9, i))); });
  }
  callers.clear();
  CHECK(calls.threads().size() == 1);
  CHECK(!calls.threads().contains(std::this_thread::get_id()));
}

TEST_CASE("the place of a request is free before its last event is seen",
          "[engine][invariant.order]") {
  ToyEngine toy;
  for (int i = 0; i < 300; ++i) {
    CHECK(Collect(**toy.engine->Submit(ToyRequest(i, 6, 3))).status.ok());
    CHECK(toy.engine->stats().kv_tokens_used == 0);
  }
}

TEST_CASE("a large request at the front is not overtaken by small ones",
          "[engine][contract.fifo]") {
  RunnerLimits limits = ToyLimits();
  limits.kv_tokens = 100;
  ToyEngine toy({}, limits);
  auto first = *toy.engine->Submit(Endless(1, 10, 50));
  auto large = *toy.engine->Submit(Endless(2, 10, 80));  // has no room beside the first
  auto small = *toy.engine->Submit(Endless(3, 2, 2));    // would have
  CHECK(Collect(*small).status.ok());
  CHECK(Collect(*large).status.ok());
  CHECK(Collect(*first).status.ok());
  CHECK(first->admitted_at() < large->admitted_at());
  CHECK(large->admitted_at() < small->admitted_at());
}

TEST_CASE("beams read one copy of their prompt", "[engine][invariant.beams]") {
  constexpr int kPrompt = 40;
  constexpr int kNew = 6;
  std::set<int64_t> prompts, shared_tokens, own;
  int64_t max_used = 0;
  ToyEngine toy;  // after what its observer writes to
  toy.runner->set_observer([&](std::span<const StepRow> rows) {
    max_used = std::max(max_used, toy.engine->stats().kv_tokens_used);
    for (const StepRow& row : rows) {
      if (row.position < kPrompt) continue;
      prompts.insert(row.shared_start);
      shared_tokens.insert(row.shared_tokens);
      own.insert(row.kv_start);
    }
  });
  EngineRequest request = Endless(1, kPrompt, kNew);
  request.sampling.num_beams = 4;
  auto handle = toy.engine->Submit(request);
  REQUIRE(handle.ok());
  CHECK(Collect(**handle).tokens == RunFromScratch(request).tokens);
  CHECK(prompts.size() == 1);
  CHECK(shared_tokens == std::set<int64_t>{kPrompt});
  CHECK(own.size() == 4);
  CHECK(max_used == kPrompt + 4 * kNew);
  SECTION("so the arena has room for more of them than for as many prompts") {
    request.sampling.num_beams = 8;
    request.sampling.max_new_tokens = 60;  // 40 + 8 · 60 slots of 600
    CHECK(toy.engine->Submit(request).ok());
  }
}

TEST_CASE("an image that two requests wait for is encoded once", "[engine][contract.images]") {
  ToyEngine toy;
  auto first = *toy.engine->Submit(ToyRequest(1, 10, 5, 1));
  auto second = *toy.engine->Submit(ToyRequest(2, 10, 5, 1));
  CHECK(Collect(*first).tokens == RunFromScratch(ToyRequest(1, 10, 5, 1)).tokens);
  CHECK(Collect(*second).tokens == RunFromScratch(ToyRequest(2, 10, 5, 1)).tokens);
  CHECK(toy.engine->stats().image_hits == 1);
}

TEST_CASE("an image that waits for a slot is counted once", "[engine][contract.images]") {
  constexpr int64_t kTries = 20;
  std::atomic<bool> queued = false, go_on = false;
  std::atomic<int64_t> started = 0;
  RunnerLimits limits = ToyLimits();
  limits.image_cache_slots = 1;
  ToyEngine toy({}, limits);
  toy.runner->set_fault([&](int64_t step) {
    started = step;
    // Between these steps of the first request the second one is tried again and again.
    while (!queued || (step >= kTries && !go_on)) std::this_thread::yield();
    return Status::Ok();
  });
  auto first = *toy.engine->Submit(Endless(1, 10, 500, 1));
  auto waits = *toy.engine->Submit(ToyRequest(2, 10, 5, 2));
  queued = true;
  while (started < kTries) std::this_thread::yield();
  CHECK(toy.engine->stats().waiting == 1);
  first->Cancel();
  go_on = true;
  CHECK(Collect(*waits).status.ok());
  CHECK(toy.engine->stats().image_hits == 0);
  CHECK(toy.engine->stats().image_misses == 2);
}

TEST_CASE("a request that leaves in the middle of its image spoils nobody's",
          "[engine][contract.images]") {
  RunnerLimits limits = ToyLimits();
  limits.image_cache_slots = 1;
  for (int i = 0; i < 100; ++i) {
    ToyEngine toy({}, limits);
    Calls calls;
    calls.Watch(toy.runner);
    auto leaves = *toy.engine->Submit(ToyRequest(i, 10, 5, 1));
    auto same = *toy.engine->Submit(ToyRequest(i + 1, 10, 5, 1));
    auto other = *toy.engine->Submit(ToyRequest(i + 2, 10, 5, 2));
    while (calls.count() < static_cast<size_t>(i % 3)) std::this_thread::yield();
    leaves->Cancel();
    CHECK(Collect(*same).tokens == RunFromScratch(ToyRequest(i + 1, 10, 5, 1)).tokens);
    CHECK(Collect(*other).tokens == RunFromScratch(ToyRequest(i + 2, 10, 5, 2)).tokens);
    (void)Collect(*leaves);
  }
}

TEST_CASE("an image that cannot be encoded fails its request and no other", "[engine][fault]") {
  ToyEngine toy;
  int calls = 0;
  toy.runner->set_image_fault([&calls](int32_t) {
    return ++calls == 2 ? Status(ErrorCode::kOutOfMemory, "no room") : Status::Ok();
  });
  const Outcome failed = Collect(**toy.engine->Submit(ToyRequest(1, 10, 5, 1)));
  CHECK(failed.status.code() == ErrorCode::kOutOfMemory);
  const Outcome again = Collect(**toy.engine->Submit(ToyRequest(1, 10, 5, 1)));
  CHECK(again.tokens == RunFromScratch(ToyRequest(1, 10, 5, 1)).tokens);
  CHECK(toy.engine->stats().kv_tokens_used == 0);
}

}  // namespace
}  // namespace idefics
