// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/event_log.h"

#include <catch2/catch_test_macros.hpp>
#include <thread>

namespace idefics {
namespace {

using std::chrono::milliseconds;

std::vector<std::string> Texts(const EventLog::Batch& batch) {
  std::vector<std::string> texts;
  for (const JobEvent& event : batch.events) {
    if (const auto* text = std::get_if<JobText>(&event)) texts.push_back(text->piece);
  }
  return texts;
}

TEST_CASE("two cursors read the same events, each at its own pace", "[jobs]") {
  EventLog log(1024);
  size_t quick = 0;
  size_t slow = 0;
  log.Start();
  log.AddText({"a"});
  CHECK(Texts(log.Read(&quick)) == std::vector<std::string>{"a"});
  log.AddText({"b"});
  CHECK(Texts(log.Read(&quick)) == std::vector<std::string>{"b"});
  CHECK(Texts(log.Read(&slow)) == std::vector<std::string>{"a", "b"});
  CHECK(quick == 3);
  CHECK(slow == 3);
}

TEST_CASE("events come in order with what they hold", "[jobs]") {
  EventLog log(1024);
  size_t cursor = 0;
  log.Start();
  log.AddLog(LogSource::kStderr, "line\n");
  log.AddMetric({"time.load", 1.5});
  log.AddText({"é"});
  log.Finish(Status::Ok());
  const EventLog::Batch batch = log.Read(&cursor);
  REQUIRE(batch.events.size() == 5);
  CHECK(std::holds_alternative<JobStarted>(batch.events[0]));
  CHECK(std::get<JobLogLine>(batch.events[1]).source == LogSource::kStderr);
  CHECK(std::get<JobLogLine>(batch.events[1]).text == "line\n");
  CHECK(std::get<Metric>(batch.events[2]).name == "time.load");
  CHECK(std::get<double>(std::get<Metric>(batch.events[2]).value) == 1.5);
  CHECK(std::get<JobText>(batch.events[3]).piece == "é");
  CHECK(std::get<JobText>(batch.events[3]).index == 0);
  CHECK(std::holds_alternative<JobFinished>(batch.events[4]));
}

TEST_CASE("a view shows the log up to its cursor and nothing later", "[jobs]") {
  EventLog log(1024);
  log.Start();
  log.AddText({"a"});
  log.AddLog(LogSource::kStdout, "one\n");
  log.AddText({"b"});
  log.AddMetric({"n", int64_t{2}});
  log.Finish(Status::InvalidInput("broken"));
  CHECK(log.ViewAt(0).state == JobState::kStarting);
  CHECK_FALSE(log.ViewAt(0).started_at);
  const JobView begun = log.ViewAt(1);
  CHECK(begun.state == JobState::kProcessing);
  CHECK(begun.started_at);
  CHECK(begun.pieces.empty());
  CHECK(begun.logs.empty());
  const JobView middle = log.ViewAt(3);
  CHECK(middle.Text() == "a");
  CHECK(middle.logs == "one\n");
  CHECK(middle.metrics.empty());
  const JobView before_end = log.ViewAt(5);
  CHECK(before_end.state == JobState::kProcessing);
  CHECK(before_end.Text() == "ab");
  CHECK(before_end.metrics.size() == 1);
  CHECK_FALSE(before_end.completed_at);
  CHECK(before_end.failure.ok());
  const JobView end = log.View();
  CHECK(end.state == JobState::kFailed);
  CHECK(end.completed_at);
  CHECK(end.failure.message() == "broken");
}

TEST_CASE("a reader who is too far behind is told how much it lost", "[jobs]") {
  EventLog log(16);
  log.Start();
  const std::string piece(4096, 'x');
  constexpr size_t kNumPieces = 3000;
  for (size_t i = 0; i < kNumPieces; ++i) log.AddText({piece});
  size_t cursor = 0;
  const EventLog::Batch batch = log.Read(&cursor);
  CHECK(batch.events.empty());
  CHECK(batch.skipped == kNumPieces + 1 - 1024);
  CHECK(log.View().pieces.size() == kNumPieces);  // the output itself is whole
  size_t skipped = 0;
  CHECK(log.ReplayStart(&skipped) == kNumPieces + 1 - 16);
  CHECK(skipped == kNumPieces + 1 - 16);
}

TEST_CASE("short events are kept beyond the count", "[jobs]") {
  EventLog log(16);
  log.Start();
  for (int i = 0; i < 5000; ++i) log.AddText({"x"});
  size_t cursor = 0;
  CHECK(log.Read(&cursor).skipped == 0);
}

TEST_CASE("a canceled job that never began has one event, and both times", "[jobs]") {
  EventLog log(16);
  log.Finish(Status(ErrorCode::kCanceled, "canceled before it began"));
  log.Finish(Status::Ok());  // the first one counts
  size_t cursor = 0;
  CHECK(log.Read(&cursor).events.size() == 1);
  const JobView view = log.View();
  CHECK(view.state == JobState::kCanceled);
  CHECK(view.started_at == view.completed_at);
}

TEST_CASE("logs and metrics beyond their bound are dropped, text is not", "[jobs]") {
  EventLog log(16);
  log.Start();
  const std::string line(1 << 20, 'x');
  for (int i = 0; i < 8; ++i) {
    log.AddLog(LogSource::kStdout, line);
    log.AddMetric({"m", line});
    log.AddText({line});
  }
  const JobView view = log.View();
  CHECK(view.logs.size() == 4 * line.size());
  CHECK(view.metrics.size() < 4);
  CHECK(view.pieces.size() == 8);
  CHECK(log.num_bytes() >= 15 * line.size());
}

TEST_CASE("waiting ends with the first event, a wake or the end of the job", "[jobs]") {
  EventLog log(16);
  size_t cursor = 0;
  CHECK(log.Wait(&cursor, milliseconds(1)).events.empty());
  std::jthread writer([&] { log.Start(); });
  CHECK(log.Wait(&cursor, std::chrono::minutes(1)).events.size() == 1);
  std::jthread waker([&] {
    while (log.state() != JobState::kSucceeded) {
      log.WakeReaders();
      std::this_thread::yield();
    }
  });
  CHECK(log.Wait(&cursor, std::chrono::minutes(1)).events.empty());
  std::jthread ender([&] { log.Finish(Status::Ok()); });
  CHECK(log.WaitFinished(std::chrono::minutes(1)));
}

TEST_CASE("a listener is called once for every event until it is removed", "[jobs]") {
  EventLog log(16);
  int calls = 0;
  int all_calls = 0;
  const size_t listener = log.AddListener([&] { ++calls; });
  log.AddListener([&] { ++all_calls; });
  log.Start();
  log.AddText({"x"});
  log.RemoveListener(listener);
  log.Finish(Status::Ok());
  CHECK(calls == 2);
  CHECK(all_calls == 3);
}

}  // namespace
}  // namespace idefics
