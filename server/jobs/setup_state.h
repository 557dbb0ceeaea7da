// SPDX-License-Identifier: Apache-2.0
// How far the start is. Thread safe.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "common/mutex.h"

namespace idefics {

class SetupState {
 public:
  enum class Phase { kStarting, kReady, kFailed };

  struct View {
    Phase phase = Phase::kStarting;
    std::chrono::system_clock::time_point started_at;
    std::optional<std::chrono::system_clock::time_point> completed_at;
    std::string logs;
  };

  SetupState() { view_.started_at = std::chrono::system_clock::now(); }

  // The first one counts: a set-up that ends after its time-out changes nothing. True: this one
  // did.
  bool Succeed(const std::string& logs) { return End(Phase::kReady, logs); }
  bool Fail(const std::string& logs) { return End(Phase::kFailed, logs); }

  Phase phase() const {
    const MutexLock lock(mutex_);
    return view_.phase;
  }
  View view() const {
    const MutexLock lock(mutex_);
    return view_;
  }

 private:
  bool End(Phase phase, const std::string& logs) {
    const MutexLock lock(mutex_);
    if (view_.phase != Phase::kStarting) return false;
    view_.phase = phase;
    view_.completed_at = std::chrono::system_clock::now();
    view_.logs = logs;
    return true;
  }

  mutable Mutex mutex_;
  View view_ IDEFICS_GUARDED_BY(mutex_);
};

}  // namespace idefics
