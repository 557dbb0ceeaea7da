// SPDX-License-Identifier: Apache-2.0
// SIGINT and SIGTERM as a stop token, for commands that run to an end of their own. Before Arm, and
// the second time, a signal ends the process at once.
#pragma once

#include <atomic>
#include <cstdlib>
#include <stop_token>
#include <thread>

#include "server/cli/signals.h"

namespace idefics {

class Interrupt {
 public:
  Interrupt() : watch_([this](const std::stop_token& end) { Watch(end); }) {}

  // From here on there is something to end in order.
  void Arm() { armed_ = true; }

  std::stop_token token() const { return source_.get_token(); }
  bool requested() const { return source_.stop_requested(); }

 private:
  void Watch(const std::stop_token& end) {
    while (!end.stop_requested()) {
      if (signals_.Wait(std::chrono::milliseconds(50)) == StopSignals::Event::kNone) continue;
      constexpr int kInterruptedExit = 130;
      if (!armed_ || !source_.request_stop()) std::_Exit(kInterruptedExit);
    }
  }

  StopSignals signals_;
  std::stop_source source_;
  std::atomic<bool> armed_{false};
  std::jthread watch_;  // last: it uses the others
};

}  // namespace idefics
