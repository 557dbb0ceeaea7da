// SPDX-License-Identifier: Apache-2.0
// Fair shares (predictor/engine/README.md#shares): what one client has waiting does not hold up the
// others. All waiting is counted in steps and in requests.
#include <algorithm>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <thread>

#include "tests/engine/engine_fixture.h"

namespace idefics {
namespace {

// One call of the runner: the rows of a step, or none for a part of an image.
struct Call {
  std::vector<int32_t> first_tokens;  // of each row
  std::vector<int64_t> tokens;        // number of each row's
};

// An engine that runs nothing until all requests are there. Each request's tokens are all the same
// number, its mark, so that its prompt's rows can be told.
class Watched {
 public:
  Watched(EngineOptions options, RunnerLimits limits) : toy_(options, limits) {
    toy_.runner->set_observer([this](std::span<const StepRow> rows) {
      while (!go_on_) std::this_thread::yield();
      Call call;
      for (const StepRow& row : rows) {
        call.first_tokens.push_back(row.tokens.front());
        call.tokens.push_back(static_cast<int64_t>(row.tokens.size()));
      }
      calls_.push_back(std::move(call));
    });
  }

  std::shared_ptr<RequestHandle> Submit(const std::string& client, int32_t mark, int length,
                                        int max_new_tokens, int beams = 1) {
    EngineRequest request;
    request.tokens.assign(length, mark);
    request.tokens.back() = ++num_submitted_ % kToyVocab;
    request.image_index.assign(length, -1);
    request.sampling.max_new_tokens = max_new_tokens;
    request.sampling.num_beams = beams;
    return Submit(client, std::move(request));
  }
  std::shared_ptr<RequestHandle> Submit(const std::string& client, EngineRequest request) {
    request.client = client;
    auto handle = *toy_.engine->Submit(std::move(request));
    if (handles_.empty()) {
      while (handle->admitted_at() == RequestHandle::Clock::time_point{}) std::this_thread::yield();
    }
    handles_.push_back(handle);
    return handle;
  }

  // Runs all to their ends.
  void GoOn() {
    go_on_ = true;
    for (const auto& handle : handles_) REQUIRE(Collect(*handle).status.ok());
  }

  // How many others were admitted before it.
  int64_t PlaceOf(const RequestHandle& handle) const {
    return std::count_if(handles_.begin(), handles_.end(), [&](const auto& other) {
      return other->admitted_at() < handle.admitted_at();
    });
  }
  const std::vector<Call>& calls() const { return calls_; }  // once all have ended

 private:
  std::atomic<bool> go_on_ = false;
  std::vector<Call> calls_;
  std::vector<std::shared_ptr<RequestHandle>> handles_;
  int num_submitted_ = 0;
  ToyEngine toy_;  // last: its thread uses the others
};

RunnerLimits Ample() {
  RunnerLimits limits = ToyLimits();
  limits.kv_tokens = 20'000;
  return limits;
}

EngineOptions Uncached(int max_num_seqs) {
  EngineOptions options;
  options.max_num_seqs = max_num_seqs;
  options.prefix_cache = false;
  return options;
}

TEST_CASE("a hundred prompts of one client are not admitted before one of another's",
          "[engine][contract.shares]") {
  constexpr int kPlaces = 4;
  constexpr int kNew = 5;
  Watched watched(Uncached(kPlaces), Ample());
  for (int i = 0; i < 100; ++i) watched.Submit("many", 1, 60, kNew);
  const auto one = watched.Submit("one", 2, 10, kNew);
  watched.GoOn();
  CHECK(watched.PlaceOf(*one) <= kPlaces);
  const auto& calls = watched.calls();
  const auto begun = std::find_if(calls.begin(), calls.end(), [](const Call& call) {
    return std::count(call.first_tokens.begin(), call.first_tokens.end(), 2) > 0;
  });
  // The four that ran take one step for their prompts and one for each further token.
  CHECK(begun - calls.begin() <= 1 + kNew);
}

TEST_CASE("one client's eight beams take turns with others' requests",
          "[engine][contract.shares]") {
  Watched watched(Uncached(8), Ample());
  std::vector<std::shared_ptr<RequestHandle>> ones;
  for (int i = 0; i < 20; ++i) watched.Submit("beams", 1, 10, 6, /*beams=*/8);
  for (int i = 0; i < 20; ++i) ones.push_back(watched.Submit("one", 2, 10, 3));
  watched.GoOn();
  for (int i = 0; i < 20; ++i) {
    // The beams that ran when they came, its own ones, and a turn of the beams for each.
    CHECK(watched.PlaceOf(*ones[i]) <= 1 + i + (i + 1));
  }
}

TEST_CASE("a large request of another client is not overtaken for ever by small ones",
          "[engine][contract.shares]") {
  Watched watched(Uncached(8), Ample());
  for (int i = 0; i < 50; ++i) watched.Submit("small", 1, 10, 3 + i % 4);
  const auto large = watched.Submit("large", 2, 10, 4, /*beams=*/8);
  watched.GoOn();
  CHECK(watched.PlaceOf(*large) <= 8);
}

TEST_CASE("the prompts of clients share each step", "[engine][contract.shares]") {
  EngineOptions options = Uncached(8);
  options.max_num_batched_tokens = 40;
  Watched watched(options, Ample());
  for (int i = 0; i < 6; ++i) watched.Submit("long", 1, 500, 1);
  watched.Submit("short", 2, 50, 1);
  watched.GoOn();
  int64_t run = 0;
  int steps = 0;
  for (const Call& call : watched.calls()) {
    int64_t all = 0, own = 0;
    for (size_t r = 0; r < call.tokens.size(); ++r) {
      all += call.tokens[r];
      own += call.first_tokens[r] == 2 ? call.tokens[r] : 0;
    }
    CHECK((all == 40 || run + own == 50));  // what one leaves the others use
    run += own;
    ++steps;
    if (run == 50) break;
  }
  CHECK(run == 50);
  CHECK(steps <= 1 + 3);  // the first one ran before it came; 50 tokens, 20 a step
}

TEST_CASE("the images of clients have turns", "[engine][contract.shares]") {
  constexpr int kImages = 12;
  RunnerLimits limits = Ample();
  limits.image_cache_slots = 2 * kImages;
  Watched watched(Uncached(8), limits);
  EngineRequest shots;
  for (int i = 0; i < kImages; ++i) {
    shots.images.push_back(ToyImage(i));
    for (int t = 0; t < 3; ++t) shots.image_index.push_back(i);
  }
  shots.tokens.assign(shots.image_index.size(), 1);
  shots.sampling.max_new_tokens = 1;
  watched.Submit("shots", shots);
  EngineRequest question = ToyRequest(1, 4, 1, /*image=*/kImages);
  question.tokens = {2, 2, 2, 2};
  question.image_index = {0, 0, 0, 0};
  watched.Submit("one", question);
  watched.GoOn();
  int parts = 0;
  for (const Call& call : watched.calls()) {
    if (std::count(call.first_tokens.begin(), call.first_tokens.end(), 2) > 0) break;
    parts += call.tokens.empty() ? 1 : 0;
  }
  CHECK(parts <= 2 * kToyImageParts);  // the one that was begun, and its own
}

}  // namespace
}  // namespace idefics
