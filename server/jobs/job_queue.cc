// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/job_queue.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <unordered_map>
#include <utility>

namespace idefics {
namespace {

constexpr size_t kMaxFinished = 256;
constexpr auto kFinishedTime = std::chrono::minutes(5);
constexpr auto kCancelTime = std::chrono::seconds(5);  // for canceled jobs to end

// How many of these a client has. (clang's lock analysis does not see who holds what in a lambda
// that FairQueue calls.)
struct HeldBy {
  const std::unordered_map<std::string, int>& slots;
  int operator()(const std::string& client) const {
    const auto of_client = slots.find(client);
    return of_client == slots.end() ? 0 : of_client->second;
  }
};

}  // namespace

bool JobQueue::IsFullFor(const Job& job) const {
  const int limit = job.max_queued().value_or(max_queued_);
  if (num_queued() < limit) return false;
  const bool others_have_more = queue_.NumOf(job.client()) == 0 && queue_.longest_line() > 1;
  return !others_have_more || num_queued() >= 2 * limit;
}

bool JobQueue::HasEnough(const std::string& client) const {
  if (max_of_client_ == 0) return false;
  return HeldBy{slots_of_}(client) + static_cast<int>(queue_.NumOf(client)) >= max_of_client_;
}

void JobQueue::TakeSlot(const Job& job) {
  ++used_slots_;
  ++slots_of_[job.client()];
}

void JobQueue::GiveSlotBack(const Job& job) {
  --used_slots_;
  const auto slots = slots_of_.find(job.client());
  if (--slots->second == 0) slots_of_.erase(slots);
}

JobQueue::Claim JobQueue::Enter(std::shared_ptr<Job> job) {
  const MutexLock lock(mutex_);
  const auto found = in_flight_.find(job->id());
  if (found != in_flight_.end()) return {Place::kInFlight, found->second};
  if (closed_) return {Place::kClosed, nullptr};
  if (HasEnough(job->client())) return {Place::kClientFull, nullptr};
  const bool has_slot = used_slots_ < max_slots_;
  if (!has_slot && IsFullFor(*job)) return {Place::kFull, nullptr};
  in_flight_[job->id()] = job;
  if (has_slot) {
    TakeSlot(*job);
    return {Place::kSlot, std::move(job)};
  }
  queue_.Push(job->client(), job);
  ++num_queued_;
  return {Place::kQueued, std::move(job)};
}

// REQUIRES: the job's slot, or its place in the queue, is free again.
JobQueue::Dropped JobQueue::Retire(const std::shared_ptr<Job>& job, const Status& status) {
  in_flight_.erase(job->id());
  job->log().Finish(status);
  job->ShrinkMemory();
  finished_.push_back({job, job->num_bytes(), std::chrono::steady_clock::now() + kFinishedTime});
  finished_bytes_ += finished_.back().num_bytes;
  if (in_flight_.empty()) drained_.NotifyAll();
  return DropOld();
}

// REQUIRES: it is no more in the queue.
JobQueue::Dropped JobQueue::RetireWaiting(const std::shared_ptr<Job>& job, const Status& status) {
  --num_queued_;
  if (metrics_ != nullptr && status.code() == ErrorCode::kOverloaded) {
    metrics_->CountRefusal(job->api(), RefusalReason::kQueueTimeout);
  } else if (metrics_ != nullptr) {
    metrics_->CountUnrun(*job, status);
  }
  return Retire(job, status);
}

std::shared_ptr<Job> JobQueue::Complete(const std::shared_ptr<Job>& job, const Status& status) {
  std::shared_ptr<Job> next;
  Dropped dropped;  // destroyed after the lock
  const MutexLock lock(mutex_);
  NotePace();
  GiveSlotBack(*job);
  if (!queue_.empty()) {
    next = queue_.Take(HeldBy{slots_of_}).item;
    TakeSlot(*next);
    --num_queued_;
  }
  dropped = Retire(job, status);
  return next;
}

void JobQueue::Cancel(const std::shared_ptr<Job>& job) {
  job->RequestStop();
  Dropped dropped;  // destroyed after the lock
  const MutexLock lock(mutex_);
  if (queue_.TakeIf([&](const auto& waiting) { return waiting == job; }).empty()) return;
  dropped = RetireWaiting(job, Status(ErrorCode::kCanceled, "canceled before it began"));
}

void JobQueue::EndOverdue(const std::function<bool(const Job&)>& is_overdue, const Status& why,
                          Which which) {
  std::vector<std::shared_ptr<Job>> old;
  Dropped dropped;  // destroyed after the lock
  {
    const MutexLock lock(mutex_);
    for (const auto& job :
         queue_.TakeIf([&](const auto& waiting) { return is_overdue(*waiting); })) {
      for (auto& gone : RetireWaiting(job, why)) dropped.push_back(std::move(gone));
    }
    if (which == Which::kAll) {
      for (const auto& [id, job] : in_flight_) {
        if (is_overdue(*job)) old.push_back(job);
      }
    }
  }
  for (const auto& job : old) job->Expire(why);  // may call others
}

// The pace counts only while all slots are taken: what comes to an idle server ends when it likes.
void JobQueue::NotePace() {
  constexpr double kNewest = 0.2;  // of the mean
  const auto now = TaskClocks::Clock::now();
  if (used_slots_ >= max_slots_ && last_end_) {
    const double gap = std::chrono::duration<double>(now - *last_end_).count();
    mean_gap_s_ = mean_gap_s_ == 0 ? gap : (1 - kNewest) * mean_gap_s_ + kNewest * gap;
  }
  last_end_ = now;
}

int JobQueue::SecondsToPlace() const {
  constexpr double kMost = 60;
  const MutexLock lock(mutex_);
  return static_cast<int>(std::clamp(std::ceil(mean_gap_s_ * (num_queued_ + 1)), 1.0, kMost));
}

JobQueue::Dropped JobQueue::DropOld() {
  Dropped dropped;
  const auto now = std::chrono::steady_clock::now();
  while (!finished_.empty() &&
         (finished_.size() > kMaxFinished || finished_bytes_ > max_finished_bytes_ ||
          finished_.front().until <= now)) {
    finished_bytes_ -= finished_.front().num_bytes;
    dropped.push_back(std::move(finished_.front().job));
    finished_.pop_front();
  }
  return dropped;
}

std::shared_ptr<Job> JobQueue::FindInFlight(const std::string& id) const {
  const MutexLock lock(mutex_);
  const auto found = in_flight_.find(id);
  return found == in_flight_.end() ? nullptr : found->second;
}

std::shared_ptr<Job> JobQueue::Find(const std::string& id) {
  Dropped dropped;  // destroyed after the lock
  const MutexLock lock(mutex_);
  const auto found = in_flight_.find(id);
  if (found != in_flight_.end()) return found->second;
  dropped = DropOld();
  for (auto it = finished_.rbegin(); it != finished_.rend(); ++it) {
    if (it->job->id() == id) return it->job;
  }
  return nullptr;
}

bool JobQueue::Drain(std::chrono::milliseconds time) {
  MutexLock lock(mutex_);
  closed_ = true;
  const auto empty = [this]() IDEFICS_REQUIRES(mutex_) { return in_flight_.empty(); };
  if (drained_.WaitFor(lock, time, empty)) return true;
  const auto left = in_flight_;
  lock.Unlock();
  for (const auto& [id, job] : left) Cancel(job);
  lock.Lock();
  return drained_.WaitFor(lock, kCancelTime, empty);
}

}  // namespace idefics
