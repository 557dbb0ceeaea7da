// SPDX-License-Identifier: Apache-2.0
// Turns: whose turn it is among clients that wait. Whoever's last turn is longest ago is next; one
// that did not wait before stands behind all others but the one that had the last turn. So nobody
// who waits is passed over twice by the same client. No lock.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>

#include "common/check.h"

namespace idefics {

class Turns {
 public:
  // A client's last one; the smallest is next.
  struct Turn {
    int64_t number = 0;
    int64_t arrival = 0;
    auto operator<=>(const Turn&) const = default;
  };

  // The client waits, if it did not yet.
  void Join(const std::string& client) {
    if (last_.try_emplace(client, Turn{turns_ - 1, arrivals_ + 1}).second) ++arrivals_;
  }

  // The client waits no longer.
  void Leave(const std::string& client) { last_.erase(client); }
  // `waits(client)` says who still does.
  template <typename Waits>
  void LeaveUnless(const Waits& waits) {
    std::erase_if(last_, [&](const auto& entry) { return !waits(entry.first); });
  }

  // REQUIRES: the client waits.
  Turn LastOf(const std::string& client) const {
    const auto last = last_.find(client);
    IDEFICS_CHECK(last != last_.end());
    return last->second;
  }

  // It is the client's turn, which goes on waiting. Returns its last one. REQUIRES: it waits.
  Turn Take(const std::string& client) {
    const Turn last = LastOf(client);
    last_[client] = {++turns_, ++arrivals_};
    return last;
  }

  // As if the turn that was taken last had not been; the client waits.
  void TakeBack(const std::string& client, Turn last) {
    last_[client] = last;
    --turns_;
  }

 private:
  std::map<std::string, Turn> last_;  // of those that wait
  int64_t turns_ = 0;
  int64_t arrivals_ = 0;
};

}  // namespace idefics
