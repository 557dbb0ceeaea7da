// SPDX-License-Identifier: Apache-2.0
// For a line that another one of the same thread will follow at once: both cost one write.
#pragma once

namespace idefics {

// Lines of this thread that are logged while it lives, warnings and errors aside, are written with
// its next line, or when its outermost LogScope ends. REQUIRES: a LogScope lives; this lives on the
// stack of one thread.
class LogHold {
 public:
  LogHold();
  ~LogHold();
  LogHold(const LogHold&) = delete;
  LogHold& operator=(const LogHold&) = delete;
};

}  // namespace idefics
