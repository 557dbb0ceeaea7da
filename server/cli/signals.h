// SPDX-License-Identifier: Apache-2.0
// SIGTERM, SIGINT, SIGHUP and POST /shutdown as one thing to wait for.
#pragma once

#include <chrono>

namespace idefics {

// REQUIRES: made on the main thread before any other thread, whose signal masks then fit.
class StopSignals {
 public:
  enum class Event { kNone, kTerminate, kInterrupt, kReload, kShutdownRequest };

  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  Event Wait(std::chrono::milliseconds time);
  void RequestShutdown() const;  // any thread

 private:
  int signal_fd_;
  int request_fd_;
};

}  // namespace idefics
