// SPDX-License-Identifier: Apache-2.0
// Requests that run together and read one copy of a long beginning.
#include <algorithm>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <thread>

#include "tests/engine/engine_fixture.h"

namespace idefics {
namespace {

constexpr int kShots = 200;  // tokens
constexpr int kQuestion = 5;
constexpr int kAnswer = 15;

EngineOptions Sharing(int64_t from = 100) {
  EngineOptions options;
  options.max_num_seqs = 8;
  options.kv_growth = 8;
  options.share_from = from;
  return options;
}

RunnerLimits Limits(bool samples_on_device, int64_t kv_tokens) {
  RunnerLimits limits = ToyLimits(samples_on_device);
  limits.kv_tokens = kv_tokens;
  return limits;
}

EngineRequest Question(int number, int answer = kAnswer) {
  EngineRequest request = ToyRequest(1, kShots, answer, /*image=*/0);
  request.sampling.eos_token_ids = {};
  for (int i = 0; i < kQuestion; ++i) {
    request.tokens.push_back((number + i) % kToyVocab);
    request.image_index.push_back(0);
  }
  return request;
}

// An engine that runs nothing until all requests are there, and what it sees of its rows.
class Watched {
 public:
  Watched(const EngineOptions& options, const RunnerLimits& limits) : toy_(options, limits) {
    toy_.runner->set_observer([this](std::span<const StepRow> rows) {
      while (!go_on_) std::this_thread::yield();
      for (const StepRow& row : rows) {
        tokens_ += std::ssize(row.tokens);
        shared_ = std::max<int64_t>(shared_, row.shared_tokens);
      }
    });
  }
  Engine& engine() { return *toy_.engine; }
  void Run(const std::vector<EngineRequest>& requests) {
    std::vector<std::shared_ptr<RequestHandle>> handles;
    for (const EngineRequest& request : requests) handles.push_back(*engine().Submit(request));
    go_on_ = true;
    for (size_t i = 0; i < requests.size(); ++i) {
      const Outcome outcome = Collect(*handles[i]);
      REQUIRE(outcome.status.ok());
      CHECK(outcome.tokens == RunFromScratch(requests[i]).tokens);
    }
    while (engine().stats().running > 0) std::this_thread::yield();
    CHECK(engine().stats().kv_tokens_used == 0);
  }
  // Once all have ended.
  ToyRunner& runner() { return *toy_.runner; }
  int64_t tokens() const { return tokens_; }
  int64_t shared() const { return shared_; }

 private:
  std::atomic<bool> go_on_ = false;
  int64_t tokens_ = 0;
  int64_t shared_ = 0;
  ToyEngine toy_;  // last: its thread uses the others
};

std::vector<EngineRequest> Questions(int count) {
  std::vector<EngineRequest> questions;
  for (int i = 0; i < count; ++i) questions.push_back(Question(i));
  return questions;
}

TEST_CASE("requests that run together read one copy of a long beginning, and more of them fit",
          "[sharing][contract.sharing]") {
  const bool samples_on_device = GENERATE(false, true);
  const RunnerLimits limits = Limits(samples_on_device, 400);
  SECTION("eight in the room of two") {
    Watched watched(Sharing(), limits);
    watched.Run(Questions(8));
    CHECK(watched.runner().max_rows_seen() == 8);
    CHECK(watched.shared() == kShots);
    CHECK(watched.engine().stats().preemptions == 0);
    CHECK(watched.tokens() == kShots + 8 * (kQuestion + kAnswer - 1));
  }
  SECTION("what is shorter is copied") {
    Watched watched(Sharing(kShots + 1), limits);
    watched.Run(Questions(8));
    CHECK(watched.runner().max_rows_seen() == 1);
    CHECK(watched.shared() == 0);
  }
}

TEST_CASE("who waited for another's beginning gives its room for it back",
          "[sharing][contract.sharing]") {
  EngineOptions options = Sharing();
  options.kv_growth = kAnswer;
  Watched watched(options, Limits(GENERATE(false, true), 8 * 300));
  watched.Run(Questions(8));
  CHECK(watched.runner().max_rows_seen() == 8);
  CHECK(watched.shared() == kShots);
  CHECK(watched.runner().slots_copied() <= 8 * (kShots + kQuestion + kAnswer));  // at their ends
}

TEST_CASE("what a request shared and computed is there for its next turn",
          "[sharing][contract.sharing]") {
  Watched watched(Sharing(), Limits(GENERATE(false, true), 2000));
  const std::vector<EngineRequest> questions = Questions(3);
  watched.Run(questions);
  for (const EngineRequest& question : questions) {
    EngineRequest next = question;
    const std::vector<int32_t> answer = RunFromScratch(question).tokens;
    next.tokens.insert(next.tokens.end(), answer.begin(), answer.end());
    next.image_index.resize(next.tokens.size(), 0);
    const auto handle = *watched.engine().Submit(next);
    CHECK(Collect(*handle).tokens == RunFromScratch(next).tokens);
    CHECK(handle->cached_tokens() == static_cast<int64_t>(next.tokens.size()) - 1);
  }
}

TEST_CASE("a beginning that is shared leaves room for the oldest to end",
          "[sharing][contract.preempt]") {
  const bool samples_on_device = GENERATE(false, true);
  Watched watched(Sharing(), Limits(samples_on_device, 400));
  std::vector<EngineRequest> questions;
  for (int i = 0; i < 6; ++i) questions.push_back(Question(i, 400 - kShots - kQuestion));
  watched.Run(questions);
  CHECK(watched.shared() == kShots);
  CHECK(watched.engine().stats().preemptions > 0);
}

TEST_CASE("a shared beginning in the midst of the arena does not keep the oldest from its end",
          "[sharing][contract.preempt]") {
  const bool samples_on_device = GENERATE(false, true);
  Watched watched(Sharing(), Limits(samples_on_device, 400));
  EngineRequest first = ToyRequest(7, 90, 8);  // its slots come before the shared ones
  first.sampling.eos_token_ids = {};
  watched.Run({first, Question(0), Question(1, 400 - kShots - kQuestion)});
  CHECK(watched.shared() == kShots);
  CHECK(watched.engine().stats().preemptions == 1);
}

TEST_CASE("an entry that is read stays, and is not what is idle", "[sharing][prefix-cache]") {
  KvExtents extents(100);
  PrefixCache cache(&extents);
  SeenTokens seen;
  for (int32_t token = 0; token < 20; ++token) seen.Add(token, "");
  const int64_t start = *extents.Allocate(30);
  extents.Split(start, 10);
  const PrefixCache::Entry* const entry = cache.Lend(seen.First(10), start);
  CHECK(cache.tokens() == 0);
  CHECK(!cache.EvictOne(nullptr));
  cache.Insert(seen, start + 10);  // which begins alike
  CHECK(cache.tokens() == 20);
  cache.AddReader(entry);
  cache.RemoveReader(entry);
  CHECK(cache.tokens() == 20);
  cache.RemoveReader(entry);
  CHECK(cache.tokens() == 30);
  CHECK(cache.EvictOne(nullptr));
  CHECK(cache.EvictOne(nullptr));
  CHECK(extents.used() == 0);
}

}  // namespace
}  // namespace idefics
