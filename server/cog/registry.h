// SPDX-License-Identifier: Apache-2.0
// Which predictions are in flight, the slots they hold and the queue for them: one lock for all, so
// that of any number of racing requests with one id exactly one runs. Keeps a few finished ones for
// GET. Thread safe.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/cog/prediction.h"

namespace idefics {

class Registry {
 public:
  enum class Claim { kNew, kQueued, kInFlight, kNoSlot, kClosed };

  struct Claimed {
    Claim claim;
    std::shared_ptr<Prediction> prediction;  // kInFlight: the one that runs; else the given one
  };

  // `max_queued` predictions may wait for a slot, in order of arrival.
  explicit Registry(int max_queued = 0) : max_queued_(max_queued) {}

  // Before SetMaxSlots there are none.
  void SetMaxSlots(int slots);

  // These take no lock: health reads them.
  int max_slots() const { return max_slots_.load(); }
  int used_slots() const { return used_slots_.load(); }
  int max_queued() const { return max_queued_; }
  int queued() const { return num_queued_.load(); }
  bool full() const { return used_slots() >= max_slots() && queued() >= max_queued(); }

  // Takes the id and a slot or a place in the queue, or says why not. kNew: the caller runs it.
  // kQueued: whoever completes another one runs it.
  Claimed TryClaim(std::shared_ptr<Prediction> prediction);

  // Ends a running prediction: state, then id and slot, then everybody is told. Returns the queued
  // one that has the slot now, for the caller to run, or nullptr.
  std::shared_ptr<Prediction> Complete(const std::shared_ptr<Prediction>& prediction,
                                       const Status& status);

  // Asks it to end; one that still waits for a slot ends here.
  void Cancel(const std::shared_ptr<Prediction>& prediction);

  std::shared_ptr<Prediction> FindInFlight(const std::string& id) const;
  std::shared_ptr<Prediction> Find(const std::string& id);  // also among the recently finished

  // No new claims; then waits until none is in flight, at most `time`; then cancels the rest and
  // waits a little. True: none is left.
  bool Close(std::chrono::milliseconds time);

 private:
  using Dropped = std::vector<std::shared_ptr<Prediction>>;
  // Both with mutex_ held; what they return is to be destroyed without it.
  Dropped Retire(const std::shared_ptr<Prediction>& prediction, const Status& status);
  Dropped DropOld();

  mutable std::mutex mutex_;
  std::condition_variable drained_;
  std::unordered_map<std::string, std::shared_ptr<Prediction>> in_flight_;
  struct Finished {
    std::shared_ptr<Prediction> prediction;
    size_t num_bytes = 0;
    std::chrono::steady_clock::time_point until;
  };
  std::deque<Finished> finished_;
  std::deque<std::shared_ptr<Prediction>> queue_;
  size_t finished_bytes_ = 0;
  const int max_queued_;
  std::atomic<int> num_queued_{0};
  std::atomic<int> max_slots_{0};
  std::atomic<int> used_slots_{0};
  bool closed_ = false;
};

}  // namespace idefics
