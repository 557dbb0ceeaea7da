// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/task.h"

#include <catch2/catch_test_macros.hpp>

#include "tests/server/doubles/scripted_images.h"
#include "tests/server/doubles/scripted_predictor.h"

namespace idefics {
namespace {

using Clock = TaskClocks::Clock;

class Collector final : public GenerateObserver {
 public:
  void OnText(const TextPiece& piece) override { pieces.emplace_back(piece.text); }
  std::vector<std::string> pieces;
};

class TaskFixture {
 public:
  TaskOutcome Run(Task task, Clock::time_point received = Clock::now()) {
    return TaskRunner(predictor, images, limits).Run(std::move(task), received, {}, seen);
  }

  static Task WithImages(int count) {
    Task task;
    for (int i = 0; i < count; ++i)
      task.request.prompt.emplace_back(
          PromptImage{"data:,x", ImagePolicy::kUprightAlphaDropped, nullptr});
    return task;
  }

  ScriptedPredictor predictor;
  ScriptedImages images;
  TaskLimits limits;
  Collector seen;
};

TEST_CASE_METHOD(TaskFixture, "images get their files, equal references included", "[jobs]") {
  CHECK(Run(WithImages(2)).status.ok());
  const GenerateRequest request = predictor.requests().at(0);
  REQUIRE(request.prompt.size() == 2);
  for (const PromptPiece& piece : request.prompt) {
    REQUIRE(std::get<PromptImage>(piece).file != nullptr);
    CHECK(std::get<PromptImage>(piece).file->size() == 7);
  }
}

TEST_CASE_METHOD(TaskFixture, "too many images are refused with the limit and its flag", "[jobs]") {
  limits.max_images = 3;
  CHECK(Run(WithImages(4)).status.message() ==
        "the prompt has 4 images, the limit is 3 (--max-images)");
  CHECK(Run(WithImages(4)).status.code() == ErrorCode::kTooLarge);
  CHECK(predictor.requests().empty());
}

TEST_CASE_METHOD(TaskFixture, "the answer is the new text, stripped, or all of it", "[jobs]") {
  predictor.pieces = {" A", " dog", " \n"};
  Task task;
  Run(task);
  CHECK(seen.pieces == std::vector<std::string>{" A", " dog", " \n"});
  seen.pieces.clear();
  task.response = ResponseText::kStripped;
  Run(task);
  CHECK(seen.pieces == std::vector<std::string>{"A", " dog"});
  seen.pieces.clear();
  task.response = ResponseText::kFull;
  Run(task);
  CHECK(seen.pieces == std::vector<std::string>{"User: hi \nAssistant: A dog \n"});
}

TEST_CASE_METHOD(TaskFixture, "what no schema can say fails the run before anything is fetched",
                 "[jobs]") {
  Task task = WithImages(1);
  task.refusal = Status::InvalidInput("it is a URL");
  images.failure = Status::Internal("must not be asked");
  CHECK(Run(task).status.message() == "it is a URL");
  CHECK(predictor.requests().empty());
}

TEST_CASE_METHOD(TaskFixture, "an image that cannot be had is one kind of failure", "[jobs]") {
  images.failure = Status::InvalidInput("the base64 data breaks off");
  CHECK(Run(WithImages(1)).status.code() == ErrorCode::kFetchFailed);
  CHECK_FALSE(Run(WithImages(1)).status.item());
  images.failure = images.failure.WithItem(1);
  CHECK(Run(WithImages(1)).status.item() == 1);
  images.failure = Status(ErrorCode::kForbiddenUrl, "not public");
  CHECK(Run(WithImages(1)).status.code() == ErrorCode::kForbiddenUrl);
  images.failure = Status(ErrorCode::kCanceled, "canceled");
  CHECK(Run(WithImages(1)).status.code() == ErrorCode::kCanceled);
}

TEST_CASE("times count from the arrival, and all waiting is queue time", "[jobs]") {
  TaskOutcome outcome;
  const Clock::time_point received = Clock::now();
  outcome.clocks = {received, received + std::chrono::seconds(2),
                    received + std::chrono::seconds(5), received + std::chrono::seconds(7)};
  outcome.result.timings.queue_s = 1;  // the engine's own
  outcome.result.choices.emplace_back().token_ids = {1, 2, 3, 4, 5};
  std::vector<std::pair<std::string, double>> times;
  for (const Metric& metric : MetricsOf(outcome)) {
    if (const auto* value = std::get_if<double>(&metric.value)) {
      times.emplace_back(metric.name, *value);
    }
  }
  CHECK(times == std::vector<std::pair<std::string, double>>{{"fetch_time", 0},
                                                             {"preprocess_time", 0},
                                                             {"queue_time", 3},
                                                             {"time_to_first_token", 5},
                                                             {"tokens_per_second", 2}});
}

}  // namespace
}  // namespace idefics
