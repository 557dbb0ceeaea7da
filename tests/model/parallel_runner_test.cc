// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/parallel_runner.h"

#include <array>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <latch>

#include "predictor/model/toy_runner.h"

namespace idefics {
namespace {

using Catch::Matchers::ContainsSubstring;
using std::chrono::milliseconds;

RunnerLimits Limits() {
  RunnerLimits limits;
  limits.vocab_size = 50;
  limits.kv_tokens = 256;
  limits.image_cache_slots = 4;
  limits.image_size = 2;
  return limits;
}

// Toy ranks that meet in the middle of each step. `at_step(rank)`: what a rank does before.
class Ranks {
 public:
  explicit Ranks(
      int count, milliseconds patience = std::chrono::minutes(1),
      std::function<Status(int rank)> at_step = [](int) { return Status::Ok(); })
      : group_(std::make_shared<RankGroup>(count, patience)) {
    auto made = ParallelRunner::Make(
        group_, [group = group_, at_step](int rank) -> Result<std::unique_ptr<ModelRunner>> {
          auto toy = std::make_unique<ToyRunner>(Limits());
          toy->set_fault([group, rank, at_step](int64_t /*step*/) {
            RETURN_IF_ERROR(at_step(rank));
            return group->Meet(rank, nullptr).status();
          });
          return std::unique_ptr<ModelRunner>(std::move(toy));
        });
    REQUIRE(made.ok());
    runner_ = std::move(made).value();
  }

  ModelRunner& runner() { return *runner_; }

 private:
  const std::shared_ptr<RankGroup> group_;
  std::unique_ptr<ModelRunner> runner_;
};

constexpr std::array<int32_t, 3> kTokens{4, 7, 9};
constexpr std::array<int32_t, 3> kImages{-1, 2, 2};

StepRow Row() {
  StepRow row;
  row.tokens = kTokens;
  row.image_slots = kImages;
  row.kv_start = 10;
  return row;
}

std::vector<float> LogitsOf(ModelRunner& runner) {
  const StepRow row = Row();
  std::vector<float> logits(Limits().vocab_size);
  REQUIRE(runner.Step(std::span(&row, 1), logits).ok());
  return logits;
}

TEST_CASE("ranks answer as one runner does", "[ranks]") {
  ToyRunner alone(Limits());
  const std::vector<float> pixels(12, 0.5f);
  REQUIRE(alone.EncodeImage(pixels, 2).ok());
  const std::vector<float> expected = LogitsOf(alone);
  for (const int count : {1, 2, 3, 4}) {
    Ranks ranks(count);
    REQUIRE(ranks.runner().EncodeImage(pixels, 2).ok());
    CHECK(LogitsOf(ranks.runner()) == expected);
    const KvCopy copy{10, 40, 3};
    CHECK(ranks.runner().CopyKv(std::span(&copy, 1)).ok());
    CHECK(ranks.runner().limits().kv_tokens == Limits().kv_tokens);
    CHECK_FALSE(ranks.runner().broken());
  }
}

TEST_CASE("a rank that fails ends the step for all with its own words, and the next one runs",
          "[ranks]") {
  std::atomic<bool> fails = true;
  Ranks ranks(3, std::chrono::minutes(1), [&](int rank) {
    if (rank != 1 || !fails) return Status::Ok();
    return Status(ErrorCode::kOutOfMemory, "no room for the step");
  });
  const StepRow row = Row();
  const Status status = ranks.runner().StartStep(std::span(&row, 1));
  CHECK(status.code() == ErrorCode::kOutOfMemory);
  CHECK(status.message() == "rank 1: no room for the step");
  CHECK_FALSE(ranks.runner().broken());
  fails = false;
  ToyRunner alone(Limits());
  CHECK(LogitsOf(ranks.runner()) == LogitsOf(alone));
}

TEST_CASE("a step that another rank could not start is not taken for the next one's", "[ranks]") {
  std::atomic<bool> fails = true;
  auto group = std::make_shared<RankGroup>(2, std::chrono::minutes(1));
  auto made = ParallelRunner::Make(group, [&](int rank) -> Result<std::unique_ptr<ModelRunner>> {
    auto toy = std::make_unique<ToyRunner>(Limits());
    toy->set_fault([&fails, rank](int64_t /*step*/) {  // behind the last place where they meet
      return rank == 1 && fails ? Status::Internal("late") : Status::Ok();
    });
    return std::unique_ptr<ModelRunner>(std::move(toy));
  });
  REQUIRE(made.ok());
  ModelRunner& runner = **made;
  const std::array<int32_t, 1> other{30};
  const std::array<int32_t, 1> no_image{-1};
  StepRow row;
  row.tokens = other;
  row.image_slots = no_image;
  CHECK_FALSE(runner.StartStep(std::span(&row, 1)).ok());
  fails = false;
  ToyRunner alone(Limits());
  CHECK(LogitsOf(runner) == LogitsOf(alone));
}

TEST_CASE("a rank that hangs is one clear error, and from then on nothing runs", "[ranks]") {
  const auto released = std::make_shared<std::latch>(1);
  {
    Ranks ranks(3, milliseconds(2000), [released](int rank) {
      if (rank == 2) released->wait();
      return Status::Ok();
    });
    const StepRow row = Row();
    const Status status = ranks.runner().StartStep(std::span(&row, 1));
    CHECK(status.code() == ErrorCode::kInternal);
    CHECK_THAT(status.message(), ContainsSubstring("does not answer any more"));
    CHECK(ranks.runner().broken());
    CHECK(ranks.runner().StartStep(std::span(&row, 1)).message() == status.message());
  }
  released->count_down();  // the runner is gone; its lost rank ends by itself
}

TEST_CASE("ranks that all hang, as where they wait for each other on their devices, are lost too",
          "[ranks]") {
  const auto released = std::make_shared<std::latch>(1);
  {
    Ranks ranks(2, milliseconds(2000), [released](int /*rank*/) {
      released->wait();
      return Status::Ok();
    });
    const StepRow row = Row();
    const Status status = ranks.runner().StartStep(std::span(&row, 1));
    CHECK(status.message() == "none of 2 ranks answers any more: nothing runs until a restart");
    CHECK(ranks.runner().broken());
  }
  released->count_down();
}

TEST_CASE("a rank that cannot be made is the model's failure", "[ranks]") {
  const auto group = std::make_shared<RankGroup>(3, std::chrono::minutes(1));
  const auto made =
      ParallelRunner::Make(group, [group](int rank) -> Result<std::unique_ptr<ModelRunner>> {
        if (rank == 2) return Status::InvalidInput("no such device");
        RETURN_IF_ERROR(group->Least(rank, rank).status());
        return std::unique_ptr<ModelRunner>(std::make_unique<ToyRunner>(Limits()));
      });
  CHECK(made.status().code() == ErrorCode::kInvalidInput);
  CHECK(made.status().message() == "rank 2: no such device");
}

TEST_CASE("ranks agree on the least of their numbers", "[ranks]") {
  RankGroup group(4, std::chrono::minutes(1));
  std::array<int64_t, 4> least{};
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 4; ++rank) {
    threads.emplace_back([&, rank] {
      for (int turn = 0; turn < 100; ++turn) {
        least[static_cast<size_t>(rank)] = group.Least(rank, 1000 + (rank + turn) % 4).value();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(least == std::array<int64_t, 4>{1000, 1000, 1000, 1000});
}

TEST_CASE("ranks name all their devices, each once", "[ranks]") {
  const auto devices = [](const std::vector<std::string>& names) {
    const auto group =
        std::make_shared<RankGroup>(static_cast<int>(names.size()), std::chrono::minutes(1));
    auto made = ParallelRunner::Make(group, [&](int rank) -> Result<std::unique_ptr<ModelRunner>> {
      RunnerLimits limits = Limits();
      limits.device = names[static_cast<size_t>(rank)];
      return std::unique_ptr<ModelRunner>(std::make_unique<ToyRunner>(limits));
    });
    REQUIRE(made.ok());
    return (*made)->limits().device;
  };
  CHECK(devices({"cuda:1", "cuda:10", "cuda:0"}) == "cuda:1,cuda:10,cuda:0");
  CHECK(devices({"cpu", "cpu"}) == "cpu");
}

}  // namespace
}  // namespace idefics
