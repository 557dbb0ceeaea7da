// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/job_queue.h"

#include <catch2/catch_test_macros.hpp>
#include <thread>

namespace idefics {
namespace {

using Place = JobQueue::Place;
using std::chrono::milliseconds;

std::shared_ptr<Job> Make(const std::string& id) {
  return std::make_shared<Job>(JobSpec{id, Task(), nullptr}, 16);
}

TEST_CASE("slots first, then the queue in order of arrival, then no place", "[jobs]") {
  JobQueue queue(2);
  CHECK(queue.Enter(Make("early")).place == Place::kQueued);  // no slot before SetMaxSlots
  queue.SetMaxSlots(1);
  const auto first = Make("1");
  CHECK(queue.Enter(first).place == Place::kSlot);
  const auto second = Make("2");
  CHECK(queue.Enter(second).place == Place::kQueued);
  CHECK(queue.full());
  CHECK(queue.Enter(Make("3")).place == Place::kFull);
  CHECK(queue.Complete(first, Status::Ok())->id() == "early");
  CHECK(queue.used_slots() == 1);
  CHECK(queue.num_queued() == 1);
}

std::shared_ptr<Job> Of(const std::string& client, const std::string& id) {
  JobSpec spec{id, Task(), nullptr};
  spec.task.request.client = client;
  return std::make_shared<Job>(std::move(spec), 16);
}

TEST_CASE("a client has only so many in flight, running and waiting together", "[jobs]") {
  JobQueue queue(20, JobQueue::kMaxFinishedBytes, nullptr, 2);
  queue.SetMaxSlots(1);
  const auto first = Of("many", "m1");
  CHECK(queue.Enter(first).place == Place::kSlot);
  const auto second = Of("many", "m2");
  CHECK(queue.Enter(second).place == Place::kQueued);
  CHECK(queue.Enter(Of("many", "m3")).place == Place::kClientFull);
  CHECK(queue.Enter(Of("one", "o1")).place == Place::kQueued);
  queue.Cancel(second);
  CHECK(queue.Enter(Of("many", "m4")).place == Place::kQueued);
  CHECK(queue.Enter(Of("many", "m5")).place == Place::kClientFull);
  queue.Complete(first, Status::Ok());
  CHECK(queue.Enter(Of("many", "m6")).place == Place::kQueued);
}

TEST_CASE("clients have slots in turn, whoever holds fewest first", "[jobs]") {
  JobQueue queue(20);
  queue.SetMaxSlots(2);
  const auto first = Of("many", "m1");
  const auto second = Of("many", "m2");
  queue.Enter(first);
  queue.Enter(second);
  for (const char* id : {"m3", "m4", "m5"}) queue.Enter(Of("many", id));
  for (const char* id : {"o1", "o2"}) queue.Enter(Of("one", id));
  const auto third = queue.Complete(first, Status::Ok());
  CHECK(third->id() == "o1");
  CHECK(queue.Complete(second, Status::Ok())->id() == "m3");
  CHECK(queue.Complete(third, Status::Ok())->id() == "o2");
  CHECK(queue.used_slots() == 2);
}

TEST_CASE("a queue that one client has filled has a place for another, up to twice its size",
          "[jobs]") {
  JobQueue queue(2);
  queue.SetMaxSlots(1);
  queue.Enter(Of("many", "m1"));
  const auto waiting = Of("many", "m2");
  queue.Enter(waiting);
  queue.Enter(Of("many", "m3"));
  CHECK(queue.Enter(Of("many", "m4")).place == Place::kFull);
  CHECK(queue.Enter(Of("one", "o1")).place == Place::kQueued);
  CHECK(queue.Enter(Of("one", "o2")).place == Place::kFull);
  CHECK(queue.Enter(Of("two", "t1")).place == Place::kQueued);
  CHECK(queue.Enter(Of("three", "x1")).place == Place::kFull);
  SECTION("but not where each client has one waiting") {
    queue.Cancel(waiting);
    CHECK(queue.num_queued() == 3);
    CHECK(queue.Enter(Of("three", "x1")).place == Place::kFull);
  }
}

TEST_CASE("an id in flight gives the job that runs", "[jobs]") {
  JobQueue queue;
  queue.SetMaxSlots(2);
  const auto running = Make("same");
  REQUIRE(queue.Enter(running).place == Place::kSlot);
  const JobQueue::Claim again = queue.Enter(Make("same"));
  CHECK(again.place == Place::kInFlight);
  CHECK(again.job == running);
  queue.Complete(running, Status::Ok());
  CHECK(queue.FindInFlight("same") == nullptr);
  CHECK(queue.Find("same") == running);
  CHECK(queue.Enter(Make("same")).place == Place::kSlot);
}

TEST_CASE("whoever learns of an end finds the slot free", "[jobs]") {
  JobQueue queue;
  queue.SetMaxSlots(1);
  for (int i = 0; i < 200; ++i) {
    const auto job = Make(std::to_string(i));
    REQUIRE(queue.Enter(job).place == Place::kSlot);
    std::jthread runner([&] { queue.Complete(job, Status::Ok()); });
    REQUIRE(job->log().WaitFinished(std::chrono::minutes(1)));
    const auto next = Make("next" + std::to_string(i));
    REQUIRE(queue.Enter(next).place == Place::kSlot);
    queue.Complete(next, Status::Ok());
  }
}

TEST_CASE("a waiting job that is canceled ends at once; a running one is asked", "[jobs]") {
  JobQueue queue(1);
  queue.SetMaxSlots(1);
  const auto running = Make("running");
  const auto waiting = Make("waiting");
  queue.Enter(running);
  queue.Enter(waiting);
  queue.Cancel(waiting);
  CHECK(waiting->log().state() == JobState::kCanceled);
  CHECK(queue.num_queued() == 0);
  queue.Cancel(running);
  CHECK(running->stop_token().stop_requested());
  CHECK(running->log().state() == JobState::kStarting);
  CHECK(queue.Complete(running, Status(ErrorCode::kCanceled, "")) == nullptr);
  CHECK(queue.used_slots() == 0);
}

TEST_CASE("a drain refuses new jobs, waits, and cancels what is left", "[jobs]") {
  JobQueue queue;
  queue.SetMaxSlots(1);
  const auto job = Make("a");
  queue.Enter(job);
  std::jthread runner([&] {
    while (!job->stop_token().stop_requested()) std::this_thread::yield();
    queue.Complete(job, Status(ErrorCode::kCanceled, ""));
  });
  CHECK(queue.Drain(milliseconds(1)));
  CHECK(queue.Enter(Make("b")).place == Place::kClosed);
  CHECK(job->log().state() == JobState::kCanceled);
}

TEST_CASE("finished jobs are kept up to a number of bytes, their contexts counted", "[jobs]") {
  class BigContext final : public ApiContext {
   public:
    size_t num_bytes() const override { return 20 << 20; }
  };
  JobQueue queue;
  queue.SetMaxSlots(1);
  for (const char* id : {"1", "2", "3", "4"}) {
    const auto job = std::make_shared<Job>(JobSpec{id, Task(), std::make_shared<BigContext>()}, 16);
    queue.Enter(job);
    queue.Complete(job, Status::Ok());
  }
  CHECK(queue.Find("1") == nullptr);  // 80 MiB are more than 64
  CHECK(queue.Find("2") != nullptr);
  CHECK(queue.Find("4") != nullptr);
}

}  // namespace
}  // namespace idefics
