// SPDX-License-Identifier: Apache-2.0
#include "predictor/engine/request.h"

namespace idefics {

bool RequestHandle::Next(TokenEvent* event, Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  if (!arrived_.wait_until(lock, deadline, [&] { return !events_.empty(); })) return false;
  *event = std::move(events_.front());
  events_.pop_front();
  return true;
}

void RequestHandle::Push(TokenEvent event) {
  {
    std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
  }
  arrived_.notify_one();
}

}  // namespace idefics
