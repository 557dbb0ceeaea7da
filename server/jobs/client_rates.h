// SPDX-License-Identifier: Apache-2.0
// How often each client may come. Not thread safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <unordered_map>

namespace idefics {

class ClientRates {
 public:
  using Clock = std::chrono::steady_clock;

  // Who has rested may come as often at once as a second allows, and once in any case. Of more than
  // so many clients newcomers are not judged: what they are remembered by is memory.
  static constexpr size_t kMaxClients = 65536;

  // `per_second`: of each client; 0: as often as it likes.
  explicit ClientRates(double per_second);

  // Zero: it may come, and has. Else when it may.
  Clock::duration Wait(const std::string& client, Clock::time_point now);

 private:
  void ForgetRested(Clock::time_point now);

  const Clock::duration interval_;  // zero: no limit
  const Clock::duration slack_;     // how far a client may be ahead of its pace
  // By when a client's pace has caught up with it; who has rested is not here.
  std::unordered_map<std::string, Clock::time_point> rested_at_;
  size_t look_again_at_ = 1024;  // clients; then those that have rested are forgotten
};

}  // namespace idefics
