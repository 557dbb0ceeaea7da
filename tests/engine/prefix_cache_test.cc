// SPDX-License-Identifier: Apache-2.0
// Prompts that begin as others did: what is taken from the KV arena instead of computed again.
#include "predictor/engine/prefix_cache.h"

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <thread>

#include "tests/engine/engine_fixture.h"

namespace idefics {
namespace {

SeenTokens Seen(const std::vector<int32_t>& tokens, const std::string& image = "") {
  SeenTokens seen;
  for (const int32_t token : tokens) seen.Add(token, image);
  return seen;
}

std::vector<int32_t> Numbers(int32_t first, int count) {
  std::vector<int32_t> numbers;
  for (int i = 0; i < count; ++i) numbers.push_back(first + i);
  return numbers;
}

TEST_CASE("what two sequences have in common is what a comparison token by token finds",
          "[prefix-cache]") {
  std::mt19937 random(2);
  using Token = std::pair<int32_t, std::string>;
  const auto draw = [&] {
    std::vector<Token> tokens(random() % 12);
    std::string image;
    for (Token& token : tokens) {
      if (random() % 4 == 0) image = std::string(random() % 3, 'x');
      token = {static_cast<int32_t>(random() % 8 == 0), image};
    }
    return tokens;
  };
  for (int i = 0; i < 20'000; ++i) {
    const std::vector<Token> one = draw(), other = draw();
    SeenTokens seen_one, seen_other;
    for (const auto& [token, image] : one) seen_one.Add(token, image);
    for (const auto& [token, image] : other) seen_other.Add(token, image);
    int64_t common = 0;
    while (common < std::min(seen_one.size(), seen_other.size()) && one[common] == other[common]) {
      ++common;
    }
    REQUIRE(seen_one.CommonWith(seen_other) == common);
    const int64_t cut = static_cast<int64_t>(random() % 14);
    REQUIRE(seen_one.First(cut).CommonWith(seen_one) == std::min(cut, seen_one.size()));
    REQUIRE(seen_one.First(cut).CommonWith(seen_other) == std::min(cut, common));
  }
}

TEST_CASE("the cache finds the longest beginning, and frees what was not used for longest",
          "[prefix-cache]") {
  KvExtents extents(100);
  PrefixCache cache(&extents);
  const auto insert = [&](const std::vector<int32_t>& tokens) {
    const int64_t start = extents.Allocate(static_cast<int64_t>(tokens.size()) + 5).value();
    cache.Insert(Seen(tokens), start);
    return start;
  };
  const int64_t a = insert(Numbers(0, 10));
  const int64_t b = insert({0, 1, 2, 3, 90, 91, 92});
  CHECK(cache.tokens() == 17);
  CHECK(extents.used() == 17);
  const PrefixCache::Match match = cache.Find(Seen({0, 1, 2, 3, 4, 5, 80, 81}), 8);
  REQUIRE(match.entry != nullptr);
  CHECK(match.tokens == 6);
  CHECK(match.entry->start == a);
  CHECK(cache.Find(Seen(Numbers(0, 12)), 5).tokens == 5);  // not beyond the limit
  CHECK(cache.Find(Seen({7, 8}), 2).entry == nullptr);
  CHECK(cache.Find(Seen(Numbers(0, 10), "an image"), 10).entry == nullptr);
  SECTION("least recently used first, but for the one that is kept") {
    CHECK(cache.EvictOne(nullptr));
    CHECK(cache.Find(Seen({0, 1, 2, 3, 90}), 5).tokens == 4);  // b is gone
    const PrefixCache::Match kept = cache.Find(Seen(Numbers(0, 10)), 10);
    CHECK(!cache.EvictOne(kept.entry));
    CHECK(cache.EvictOne(nullptr));
    CHECK(!cache.EvictOne(nullptr));
    CHECK(extents.used() == 0);
  }
  SECTION("one that goes on longer takes the place of its beginning, and not the other way round") {
    insert(Numbers(0, 12));
    CHECK(cache.tokens() == 19);
    insert(Numbers(0, 11));
    CHECK(cache.tokens() == 19);
    CHECK(extents.used() == 19);
    CHECK(cache.Find(Seen(Numbers(0, 20)), 20).tokens == 12);
  }
  SECTION("what is handed over is not freed") {
    cache.HandOver(cache.Find(Seen({0, 1, 2, 3, 90}), 5).entry);
    CHECK(cache.tokens() == 10);
    CHECK(extents.SizeOf(b) == 7);
  }
}

// Counts prompt tokens that run, and copies.
struct Watched {
  explicit Watched(EngineOptions options = {}, RunnerLimits limits = ToyLimits())
      : toy(options, limits) {
    toy.runner->set_observer([this](std::span<const StepRow> rows) {
      for (const StepRow& row : rows) {
        if (row.position + static_cast<int64_t>(row.tokens.size()) <= prompt) {
          prompt_tokens += static_cast<int>(row.tokens.size());
        }
        last_start = row.kv_start;
      }
    });
  }

  // Runs the request and compares its tokens with those that it gets alone.
  Outcome Ask(const EngineRequest& request) {
    prompt_tokens = 0;
    prompt = static_cast<int64_t>(request.tokens.size());
    const auto handle = *toy.engine->Submit(request);
    Outcome outcome = Collect(*handle);
    CHECK(outcome.status.ok());
    if (request.sampling.num_choices == 1) CHECK(outcome.tokens == RunFromScratch(request).tokens);
    cached = handle->cached_tokens();
    return outcome;
  }

  int64_t prompt = 0;
  std::atomic<int> prompt_tokens = 0;
  std::atomic<int64_t> last_start = 0;
  int64_t cached = 0;
  ToyEngine toy;
};

EngineRequest Ending(EngineRequest request, int seed, int count) {
  for (int i = 0; i < count; ++i) {
    request.tokens.push_back((seed + i) % kToyVocab);
    request.image_index.push_back(request.image_index.back());
  }
  return request;
}

TEST_CASE("a beginning that was seen is not computed again, nor are its images encoded",
          "[prefix-cache][contract.prefix]") {
  RunnerLimits limits = ToyLimits(GENERATE(false, true));
  limits.image_cache_slots = 1;
  Watched watched({}, limits);
  const EngineRequest shots = ToyRequest(1, 40, 5, /*image=*/0);
  watched.Ask(Ending(shots, 3, 6));
  CHECK(watched.prompt_tokens == 46);
  CHECK(watched.cached == 0);
  EngineRequest other = Ending(shots, 4, 3);
  other.images.push_back(ToyImage(1));
  for (size_t t = 40; t < 43; ++t) other.image_index[t] = 1;
  watched.Ask(other);
  CHECK(watched.cached == 40);
  CHECK(watched.prompt_tokens == 3);
  CHECK(watched.toy.runner->images_encoded() == 2);
  watched.Ask(Ending(shots, 3, 6));  // as at first: all but the last token
  CHECK(watched.cached == 45);
  CHECK(watched.prompt_tokens == 1);
  SECTION("by beams and choices too") {
    EngineRequest beams = Ending(shots, 9, 2);
    beams.sampling.num_beams = 3;
    watched.Ask(beams);
    CHECK(watched.cached == 40);
    EngineRequest choices = Ending(shots, 9, 2);
    choices.sampling.do_sample = true;
    choices.sampling.seed = 1;
    choices.sampling.num_choices = 2;
    const auto handle = *watched.toy.engine->Submit(choices);
    const auto outcomes = CollectChoices(*handle, 2);
    CHECK(handle->cached_tokens() == 41);  // what the beams computed
    for (int i = 0; i < 2; ++i) {
      CHECK(outcomes[i].tokens == RunFromScratch(ChoiceAlone(choices, i)).tokens);
    }
  }
}

TEST_CASE("another image at the same place is another beginning",
          "[prefix-cache][contract.prefix]") {
  Watched watched;
  watched.Ask(ToyRequest(1, 40, 5, /*image=*/0));
  watched.Ask(ToyRequest(1, 40, 5, /*image=*/1));
  CHECK(watched.cached == 20);  // the tokens before the image
  watched.Ask(ToyRequest(1, 40, 5));
  CHECK(watched.cached == 20);
}

TEST_CASE("the next turn of a dialogue goes on in the extent of the last one",
          "[prefix-cache][contract.prefix]") {
  Watched watched({}, ToyLimits(GENERATE(false, true)));
  EngineRequest turn = ToyRequest(1, 30, 12, /*image=*/0);
  turn.sampling.eos_token_ids = {};
  for (int i = 0; i < 5; ++i) {
    const Outcome outcome = watched.Ask(turn);
    // Its last token has no keys and values yet.
    CHECK(watched.cached == (i == 0 ? 0 : static_cast<int64_t>(turn.tokens.size()) - 5));
    CHECK(watched.last_start == 0);
    turn.tokens.insert(turn.tokens.end(), outcome.tokens.begin(), outcome.tokens.end());
    turn.image_index.resize(turn.tokens.size(), 0);
    turn = Ending(turn, i, 4);
  }
  CHECK(watched.toy.runner->slots_copied() == 0);
}

TEST_CASE("a request that runs lends its beginning to others", "[prefix-cache][contract.prefix]") {
  ToyEngine toy({}, ToyLimits(GENERATE(false, true)));
  std::atomic<int64_t> steps = 0, allowed = 20;
  toy.runner->set_fault([&](int64_t step) {
    steps = step;
    while (step > allowed) std::this_thread::yield();
    return Status::Ok();
  });
  EngineRequest request = ToyRequest(1, 40, 100);
  request.sampling.eos_token_ids = {};
  const auto first = *toy.engine->Submit(request);
  while (steps < 20) std::this_thread::yield();
  const auto second = *toy.engine->Submit(Ending(request, 5, 5));
  allowed = 1000;
  CHECK(Collect(*second).tokens == RunFromScratch(Ending(request, 5, 5)).tokens);
  CHECK(Collect(*first).tokens == RunFromScratch(request).tokens);
  CHECK(second->cached_tokens() >= 40);
}

// Requests that are all submitted before the first step runs.
class Together {
 public:
  explicit Together(RunnerLimits limits = ToyLimits()) : toy_({}, limits) {
    toy_.runner->set_observer([this](std::span<const StepRow> rows) {
      while (!go_on_) std::this_thread::yield();
      for (const StepRow& row : rows) tokens_ += static_cast<int>(row.tokens.size());
    });
  }
  std::shared_ptr<RequestHandle> Submit(const EngineRequest& request) {
    auto handle = *toy_.engine->Submit(request);
    if (num_submitted_++ == 0) {  // the others find it admitted
      while (handle->admitted_at() == RequestHandle::Clock::time_point{}) std::this_thread::yield();
    }
    return handle;
  }
  void GoOn() { go_on_ = true; }
  ToyRunner& runner() { return *toy_.runner; }
  int tokens() const { return tokens_; }

 private:
  std::atomic<bool> go_on_ = false;
  std::atomic<int> tokens_ = 0;
  int num_submitted_ = 0;
  ToyEngine toy_;  // last: its thread uses the others
};

TEST_CASE("of requests that begin alike and come together one computes the beginning",
          "[prefix-cache][contract.leader]") {
  RunnerLimits limits = ToyLimits(GENERATE(false, true));
  limits.image_cache_slots = GENERATE(1, 4);
  Together together(limits);
  const EngineRequest shots = ToyRequest(1, 60, 1, /*image=*/0);
  std::vector<EngineRequest> requests;
  std::vector<std::shared_ptr<RequestHandle>> handles;
  for (int i = 0; i < 5; ++i) requests.push_back(Ending(shots, i, 4));
  requests[3].sampling.num_beams = 2;
  requests[4].images.push_back(ToyImage(5));
  requests[4].image_index.back() = 1;
  for (const EngineRequest& request : requests) handles.push_back(together.Submit(request));
  together.GoOn();
  for (size_t i = 0; i < requests.size(); ++i) {
    CHECK(Collect(*handles[i]).tokens == RunFromScratch(requests[i]).tokens);
    CHECK(handles[i]->cached_tokens() == (i == 0 ? 0 : 60));
  }
  CHECK(together.tokens() == 60 + 5 * 4);
  CHECK(together.runner().images_encoded() == 2);
}

TEST_CASE("whoever waits for another's beginning goes on where that ends or fails",
          "[prefix-cache][contract.leader]") {
  Together together;
  const EngineRequest shots = ToyRequest(1, 60, 1);
  const auto leader = together.Submit(Ending(shots, 1, 4));
  const auto next = together.Submit(Ending(shots, 2, 4));
  const auto last = together.Submit(Ending(shots, 3, 4));
  SECTION("by a cancel") {
    leader->Cancel();
    together.GoOn();
    (void)Collect(*leader);
  }
  SECTION("by a cancel of it and of the next") {
    leader->Cancel();
    next->Cancel();
    together.GoOn();
  }
  SECTION("by a step that fails") {
    together.runner().set_late_fault([](int64_t step) {
      return step == 1 ? Status::Internal("the device is gone") : Status::Ok();
    });
    together.GoOn();
    CHECK(!Collect(*leader).status.ok());
    CHECK(Collect(*next).status.ok());
  }
  CHECK(Collect(*last).tokens == RunFromScratch(Ending(shots, 3, 4)).tokens);
}

TEST_CASE("what is cached makes room for whoever needs it, the least recently used first",
          "[prefix-cache][contract.idle]") {
  RunnerLimits limits = ToyLimits();
  limits.kv_tokens = 200;
  EngineOptions options;
  options.kv_growth = 8;
  Watched watched(options, limits);
  for (int i = 0; i < 3; ++i) watched.Ask(ToyRequest(i, 40, 4));
  CHECK(watched.toy.engine->stats().kv_tokens_cached > 120);
  CHECK(watched.toy.engine->stats().kv_tokens_used == 0);
  watched.Ask(Ending(ToyRequest(0, 40, 4), 1, 1));
  CHECK(watched.cached == 40);
  watched.Ask(ToyRequest(9, 100, 4));
  CHECK(watched.cached == 0);
  watched.Ask(Ending(ToyRequest(0, 40, 4), 1, 1));
  CHECK(watched.cached == 40);  // it was used after the two others
  watched.Ask(ToyRequest(10, 190, 10));
  CHECK(watched.toy.engine->stats().kv_tokens_cached < 200);
  for (int i = 0; i < 3; ++i) watched.Ask(ToyRequest(20 + i, 40, 4));
  EngineRequest grows = ToyRequest(30, 50, 140);
  grows.sampling.eos_token_ids = {};
  watched.Ask(grows);
  CHECK(watched.toy.engine->stats().preemptions == 0);
}

TEST_CASE("a beginning is used also where its request takes the whole arena",
          "[prefix-cache][contract.idle]") {
  RunnerLimits limits = ToyLimits();
  limits.kv_tokens = 100;
  Watched watched({}, limits);
  watched.Ask(ToyRequest(1, 60, 4));
  watched.Ask(Ending(ToyRequest(1, 50, 50), 2, 0));
  CHECK(watched.cached == 49);
}

TEST_CASE("what a step that failed has written is never used", "[prefix-cache][fault]") {
  Watched watched({}, ToyLimits(GENERATE(false, true)));
  watched.toy.runner->set_late_fault([](int64_t step) {
    return step == 3 ? Status::Internal("the device is gone") : Status::Ok();
  });
  EngineRequest request = ToyRequest(1, 40, 50);
  request.sampling.eos_token_ids = {};
  CHECK(!Collect(**watched.toy.engine->Submit(request)).status.ok());
  watched.Ask(request);
  CHECK(watched.cached == 0);
}

TEST_CASE("without the cache nothing is kept", "[prefix-cache]") {
  EngineOptions options;
  options.prefix_cache = false;
  Watched watched(options);
  for (int i = 0; i < 2; ++i) {
    watched.Ask(ToyRequest(1, 40, 5));
    CHECK(watched.cached == 0);
  }
  CHECK(watched.toy.engine->stats().kv_tokens_cached == 0);
}

}  // namespace
}  // namespace idefics
