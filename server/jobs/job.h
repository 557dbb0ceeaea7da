// SPDX-License-Identifier: Apache-2.0
// One request on its way through the server, from its acceptance to its end. Shared by the thread
// that runs it and those that look at it; thread safe.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

#include "common/byte_budget.h"
#include "server/jobs/event_log.h"
#include "server/jobs/request_api.h"
#include "server/jobs/task.h"
#include "server/trace/request_origin.h"

namespace idefics {

// What the API that made a job needs to answer for it. The jobs know only its cost.
class ApiContext {
 public:
  virtual ~ApiContext() = default;
  virtual size_t num_bytes() const = 0;
};

// What an API makes of a request.
struct JobSpec {
  std::string id;  // not empty
  Task task;
  std::shared_ptr<const ApiContext> context;
  ByteBudget::Share memory{};       // that of its request
  RequestOrigin origin{};           // for log lines and spans
  std::optional<int> max_queued{};  // of the queue, where the API has a limit of its own
  RequestApi api = RequestApi::kCog;
  std::optional<std::chrono::milliseconds> patience{};  // from its arrival, its caller's
};

class Job {
 public:
  // `replay_capacity`: of its event log.
  Job(JobSpec spec, size_t replay_capacity)
      : id_(std::move(spec.id)),
        api_(spec.api),
        context_(std::move(spec.context)),
        client_(spec.task.request.client),
        origin_(spec.origin.Below()),
        memory_(std::move(spec.memory)),
        max_queued_(spec.max_queued),
        patience_(spec.patience),
        log_(replay_capacity),
        task_(std::move(spec.task)) {
    task_.span = origin_.span;
  }

  const std::string& id() const { return id_; }
  RequestApi api() const { return api_; }
  const ApiContext* context() const { return context_.get(); }
  const std::string& client() const { return client_; }  // who asks
  // Of its own span, which is below its request's.
  const RequestOrigin& origin() const { return origin_; }
  std::optional<int> max_queued() const { return max_queued_; }
  std::optional<std::chrono::milliseconds> patience() const { return patience_; }
  EventLog& log() { return log_; }
  const EventLog& log() const { return log_; }

  // When it was received.
  TaskClocks::Clock::time_point received() const { return received_; }
  JobView::WallTime received_at() const { return received_at_; }

  // It may be long and is not kept once it was taken. REQUIRES: called once, by who runs it.
  Task TakeTask() { return std::move(task_); }

  // Only asks; JobQueue::Cancel also ends a job that still waits.
  void RequestStop() { stop_.request_stop(); }
  std::stop_token stop_token() const { return stop_.get_token(); }

  // Asks it to end for a reason of the server's own, which then is its end. The first one counts.
  void Expire(const Status& why) {
    if (expiring_.exchange(true)) return;
    expiry_ = why;
    expired_.store(true, std::memory_order_release);
    RequestStop();
  }
  // What a job that was canceled ends with.
  Status EndOfCanceled(const Status& canceled) const {
    return expired_.load(std::memory_order_acquire) ? expiry_ : canceled;
  }

  // Event streams that show it now. Remove: true when it was the last one.
  void AddWatcher() { ++num_watchers_; }
  bool RemoveWatcher() { return --num_watchers_ == 0; }

  // It has ended: what its request cost is counted no more, but for what is kept.
  void ShrinkMemory() { memory_.ShrinkTo(num_bytes()); }

  // Roughly what keeping it costs, its task aside.
  size_t num_bytes() const {
    return sizeof(Job) + id_.size() + log_.num_bytes() +
           (context_ == nullptr ? 0 : context_->num_bytes());
  }

 private:
  const std::string id_;
  const RequestApi api_;
  const std::shared_ptr<const ApiContext> context_;
  const std::string client_;
  const RequestOrigin origin_;
  const TaskClocks::Clock::time_point received_ = TaskClocks::Clock::now();
  const JobView::WallTime received_at_ = std::chrono::system_clock::now();
  ByteBudget::Share memory_;
  const std::optional<int> max_queued_;
  const std::optional<std::chrono::milliseconds> patience_;
  EventLog log_;
  Task task_;  // until TakeTask
  std::stop_source stop_;
  std::atomic<bool> expiring_{false};
  Status expiry_;  // written before `expired_`
  std::atomic<bool> expired_{false};
  std::atomic<int> num_watchers_{0};
};

}  // namespace idefics
