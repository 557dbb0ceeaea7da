// SPDX-License-Identifier: Apache-2.0
// Which predictions are in flight, and the slots they hold: one lock for both, so that of any
// number of racing requests with one id exactly one runs. Keeps a few finished ones for GET. Thread
// safe.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "server/cog/prediction.h"

namespace idefics {

class Registry {
 public:
  enum class Claim { kNew, kInFlight, kNoSlot, kClosed };

  struct Claimed {
    Claim claim;
    std::shared_ptr<Prediction> prediction;  // kNew: the given one; kInFlight: the one that runs
  };

  // Before SetMaxSlots there are none.
  void SetMaxSlots(int slots);
  int max_slots() const { return max_slots_.load(); }
  int used_slots() const { return used_slots_.load(); }  // takes no lock: health reads it
  bool full() const { return used_slots() >= max_slots(); }

  // Takes the id and a slot, or says why not.
  Claimed TryClaim(std::shared_ptr<Prediction> prediction);

  // Ends a claimed prediction: state, then id and slot, then everybody is told.
  void Complete(const std::shared_ptr<Prediction>& prediction, const Status& status);

  std::shared_ptr<Prediction> FindInFlight(const std::string& id) const;
  std::shared_ptr<Prediction> Find(const std::string& id);  // also among the recently finished

  // No new claims; then waits until none is in flight, at most `time`; then cancels the rest and
  // waits a little. True: none is left.
  bool Close(std::chrono::milliseconds time);

 private:
  void DropOld();

  mutable std::mutex mutex_;
  std::condition_variable drained_;
  std::unordered_map<std::string, std::shared_ptr<Prediction>> in_flight_;
  struct Finished {
    std::shared_ptr<Prediction> prediction;
    size_t num_bytes = 0;
    std::chrono::steady_clock::time_point until;
  };
  std::deque<Finished> finished_;
  size_t finished_bytes_ = 0;
  std::atomic<int> max_slots_{0};
  std::atomic<int> used_slots_{0};
  bool closed_ = false;
};

}  // namespace idefics
