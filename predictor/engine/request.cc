// SPDX-License-Identifier: Apache-2.0
#include "predictor/engine/request.h"

#include <utility>

namespace idefics {

bool RequestHandle::Next(TokenEvent* event, Clock::time_point deadline) {
  MutexLock lock(mutex_);
  const auto arrived = [this]() IDEFICS_REQUIRES(mutex_) { return !events_.empty(); };
  if (!arrived_.WaitUntil(lock, deadline, arrived)) return false;
  *event = std::move(events_.front());
  events_.pop_front();
  return true;
}

void RequestHandle::NoteEncodeBegin() {
  if (encode_began_at() == Clock::time_point{}) encode_began_at_ = Clock::now();
}

void RequestHandle::Push(TokenEvent event) {
  {
    MutexLock lock(mutex_);
    events_.push_back(std::move(event));
  }
  arrived_.NotifyOne();
}

void RequestHandle::DropChoice(int choice) {
  MutexLock lock(mutex_);
  dropped_.push_back(choice);
  any_dropped_ = true;
}

std::vector<int> RequestHandle::TakeDroppedChoices() {
  if (!any_dropped_) return {};
  MutexLock lock(mutex_);
  any_dropped_ = false;
  return std::exchange(dropped_, {});
}

}  // namespace idefics
