// SPDX-License-Identifier: Apache-2.0
#include "server/cog/registry.h"

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
  if (used_slots_ >= max_slots_) return {Claim::kNoSlot, nullptr};
  ++used_slots_;
  in_flight_[prediction->id()] = prediction;
  return {Claim::kNew, std::move(prediction)};
}

void Registry::Complete(const std::shared_ptr<Prediction>& prediction, const Status& status) {
  {
    const std::lock_guard lock(mutex_);
    prediction->SetTerminal(status);
    in_flight_.erase(prediction->id());
    --used_slots_;
    finished_.push_back(
        {prediction, prediction->num_bytes(), std::chrono::steady_clock::now() + kFinishedTime});
    finished_bytes_ += finished_.back().num_bytes;
    DropOld();
  }
  prediction->AnnounceTerminal();
  drained_.notify_all();
}

void Registry::DropOld() {
  const auto now = std::chrono::steady_clock::now();
  while (!finished_.empty() &&
         (finished_.size() > kMaxFinished || finished_bytes_ > kMaxFinishedBytes ||
          finished_.front().until <= now)) {
    finished_bytes_ -= finished_.front().num_bytes;
    finished_.pop_front();
  }
}

std::shared_ptr<Prediction> Registry::FindInFlight(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = in_flight_.find(id);
  return found == in_flight_.end() ? nullptr : found->second;
}

std::shared_ptr<Prediction> Registry::Find(const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto found = in_flight_.find(id);
  if (found != in_flight_.end()) return found->second;
  DropOld();
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
  for (const auto& [id, prediction] : in_flight_) prediction->Cancel();
  return drained_.wait_for(lock, kCancelTime, empty);
}

}  // namespace idefics
