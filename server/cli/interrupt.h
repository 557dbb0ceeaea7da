// SPDX-License-Identifier: Apache-2.0
// SIGINT and SIGTERM as a stop token, for commands that run to an end of their own. A second signal
// ends the process at once.
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

  std::stop_token token() const { return source_.get_token(); }
  bool requested() const { return source_.stop_requested(); }

 private:
  void Watch(const std::stop_token& end) {
    while (!end.stop_requested()) {
      if (signals_.Wait(std::chrono::milliseconds(50)) == StopSignals::Event::kNone) continue;
      constexpr int kInterruptedExit = 130;
      if (!source_.request_stop()) std::_Exit(kInterruptedExit);
    }
  }

  StopSignals signals_;
  std::stop_source source_;
  std::jthread watch_;  // last: it uses the others
};

}  // namespace idefics
