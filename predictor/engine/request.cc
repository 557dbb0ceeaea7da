// SPDX-License-Identifier: Apache-2.0
#include "predictor/engine/request.h"

namespace idefics {

bool RequestHandle::Next(TokenEvent* event, Clock::time_point deadline) {
  MutexLock lock(mutex_);
  const auto arrived = [this]() IDEFICS_REQUIRES(mutex_) { return !events_.empty(); };
  if (!arrived_.WaitUntil(lock, deadline, arrived)) return false;
  *event = std::move(events_.front());
  events_.pop_front();
  return true;
}

void RequestHandle::Push(TokenEvent event) {
  {
    MutexLock lock(mutex_);
    events_.push_back(std::move(event));
  }
  arrived_.NotifyOne();
}

}  // namespace idefics
