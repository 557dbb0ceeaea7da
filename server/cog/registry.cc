// SPDX-License-Identifier: Apache-2.0
#include "server/cog/registry.h"

#include <algorithm>
#include <utility>

namespace idefics {
namespace {

constexpr size_t kMaxFinished = 256;
constexpr size_t kMaxFinishedBytes = 64 << 20;
constexpr auto kFinishedTime = std::chrono::minutes(5);
constexpr auto kCancelTime = std::chrono::seconds(5);  // for canceled predictions to end

}  // namespace

void Registry::SetMaxSlots(int slots) { max_slots_ = slots; }

Registry::Claimed Registry::TryClaim(std::shared_ptr<Prediction> prediction) {
  const std::lock_guard lock(mutex_);
  const auto found = in_flight_.find(prediction->id());
  if (found != in_flight_.end()) return {Claim::kInFlight, found->second};
  if (closed_) return {Claim::kClosed, nullptr};
  const bool has_slot = used_slots_ < max_slots_;
  if (!has_slot && queued() >= max_queued_) return {Claim::kNoSlot, nullptr};
  in_flight_[prediction->id()] = prediction;
  if (has_slot) {
    ++used_slots_;
    return {Claim::kNew, std::move(prediction)};
  }
  queue_.push_back(prediction);
  ++num_queued_;
  return {Claim::kQueued, std::move(prediction)};
}

Registry::Dropped Registry::Retire(const std::shared_ptr<Prediction>& prediction,
                                   const Status& status) {
  prediction->SetTerminal(status);
  in_flight_.erase(prediction->id());
  finished_.push_back(
      {prediction, prediction->num_bytes(), std::chrono::steady_clock::now() + kFinishedTime});
  finished_bytes_ += finished_.back().num_bytes;
  return DropOld();
}

std::shared_ptr<Prediction> Registry::Complete(const std::shared_ptr<Prediction>& prediction,
                                               const Status& status) {
  std::shared_ptr<Prediction> next;
  Dropped dropped;
  {
    const std::lock_guard lock(mutex_);
    dropped = Retire(prediction, status);
    if (queue_.empty()) {
      --used_slots_;
    } else {
      next = std::move(queue_.front());
      queue_.pop_front();
      --num_queued_;
    }
  }
  prediction->AnnounceTerminal();
  drained_.notify_all();
  return next;
}

void Registry::Cancel(const std::shared_ptr<Prediction>& prediction) {
  prediction->Cancel();
  Dropped dropped;
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::find(queue_.begin(), queue_.end(), prediction);
    if (found == queue_.end()) return;
    queue_.erase(found);
    --num_queued_;
    dropped = Retire(prediction, Status(ErrorCode::kCanceled, "canceled before it began"));
  }
  prediction->AnnounceTerminal();
  drained_.notify_all();
}

Registry::Dropped Registry::DropOld() {
  Dropped dropped;
  const auto now = std::chrono::steady_clock::now();
  while (!finished_.empty() &&
         (finished_.size() > kMaxFinished || finished_bytes_ > kMaxFinishedBytes ||
          finished_.front().until <= now)) {
    finished_bytes_ -= finished_.front().num_bytes;
    dropped.push_back(std::move(finished_.front().prediction));
    finished_.pop_front();
  }
  return dropped;
}

std::shared_ptr<Prediction> Registry::FindInFlight(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = in_flight_.find(id);
  return found == in_flight_.end() ? nullptr : found->second;
}

std::shared_ptr<Prediction> Registry::Find(const std::string& id) {
  Dropped dropped;  // destroyed after the lock
  const std::lock_guard lock(mutex_);
  const auto found = in_flight_.find(id);
  if (found != in_flight_.end()) return found->second;
  dropped = DropOld();
  for (auto it = finished_.rbegin(); it != finished_.rend(); ++it) {
    if (it->prediction->id() == id) return it->prediction;
  }
  return nullptr;
}

bool Registry::Close(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  closed_ = true;
  const auto empty = [this] { return in_flight_.empty(); };
  if (drained_.wait_for(lock, time, empty)) return true;
  const auto left = in_flight_;
  lock.unlock();
  for (const auto& [id, prediction] : left) Cancel(prediction);
  lock.lock();
  return drained_.wait_for(lock, kCancelTime, empty);
}

}  // namespace idefics
