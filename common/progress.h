// SPDX-License-Identifier: Apache-2.0
// A progress bar on stderr for work that takes over half a second. On a terminal it redraws one
// line; elsewhere it prints a line every ten percent. Used by one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace idefics {

class Progress {
 public:
  // `unit` follows the numbers, e.g. "lines"; bytes are shown as GB when unit is "B".
  Progress(std::string what, uint64_t total, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Advance(uint64_t amount);

 private:
  void Draw(bool last);

  std::string what_;
  std::string unit_;
  uint64_t total_;
  uint64_t done_ = 0;
  bool terminal_;
  bool drawn_ = false;
  int next_decile_ = 0;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_draw_;
};

}  // namespace idefics
