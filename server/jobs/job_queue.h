// SPDX-License-Identifier: Apache-2.0
// Which jobs are in flight, the slots they hold and the queue for them: one lock for all, so that
// of any number of racing requests with one id exactly one runs. Keeps a few finished ones to be
// looked up. Thread safe.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/fair_queue.h"
#include "common/mutex.h"
#include "server/jobs/job.h"
#include "server/jobs/job_metrics.h"

namespace idefics {

class JobQueue {
 public:
  enum class Place {
    kSlot,        // it has a slot: the caller has it run
    kQueued,      // whoever completes another job has it run
    kInFlight,    // not taken: a job with its id is in flight
    kFull,        // not taken: every slot and every place in the queue is
    kClientFull,  // not taken: its client has as many in flight as it may
    kClosed,      // not taken: the server is stopping
  };
  struct Claim {
    Place place;
    std::shared_ptr<Job> job;  // kInFlight: the one that runs; kSlot, kQueued: the given one
  };

  static constexpr size_t kMaxFinishedBytes = 64 << 20;

  // `max_queued` jobs may wait for a slot, each client's in order of arrival, the clients' in turn
  // (FairQueue). While several of one client wait, a client of which none does finds a place also
  // behind these, up to as many again. `max_finished_bytes`: of those that are kept to be looked
  // up. `metrics` counts those that end without a slot; nullptr: nobody does. `max_of_client`: jobs
  // of one client that may be in flight; 0: no limit.
  explicit JobQueue(int max_queued = 0, size_t max_finished_bytes = kMaxFinishedBytes,
                    JobMetrics* metrics = nullptr, int max_of_client = 0)
      : max_queued_(max_queued),
        max_finished_bytes_(max_finished_bytes),
        metrics_(metrics),
        max_of_client_(max_of_client) {}

  // Before SetMaxSlots there are none.
  void SetMaxSlots(int slots) { max_slots_ = slots; }

  // These take no lock: health reads them.
  int max_slots() const { return max_slots_.load(); }
  int used_slots() const { return used_slots_.load(); }
  int max_queued() const { return max_queued_; }
  int num_queued() const { return num_queued_.load(); }
  bool full() const { return used_slots() >= max_slots() && num_queued() >= max_queued(); }

  // Takes the job's id, and a slot or a place in the queue; or says why not.
  Claim Enter(std::shared_ptr<Job> job) IDEFICS_EXCLUDES(mutex_);

  // Ends a job that has a slot. Whoever learns of the end finds its id and slot free. Returns the
  // queued job that has the slot now, for the caller to run, or nullptr.
  std::shared_ptr<Job> Complete(const std::shared_ptr<Job>& job, const Status& status)
      IDEFICS_EXCLUDES(mutex_);

  // Ends those that are overdue, for this reason; those that run are asked to.
  enum class Which { kWaiting, kAll };
  void EndOverdue(const std::function<bool(const Job&)>& is_overdue, const Status& why, Which which)
      IDEFICS_EXCLUDES(mutex_);

  // When a newcomer may expect a place, by the pace of the last ends: 1 to 60.
  int SecondsToPlace() const IDEFICS_EXCLUDES(mutex_);

  // Asks it to end; one that still waits for a slot ends here.
  void Cancel(const std::shared_ptr<Job>& job) IDEFICS_EXCLUDES(mutex_);

  std::shared_ptr<Job> FindInFlight(const std::string& id) const IDEFICS_EXCLUDES(mutex_);
  // Also among the recently finished.
  std::shared_ptr<Job> Find(const std::string& id) IDEFICS_EXCLUDES(mutex_);

  // No new jobs; waits until none is in flight, at most `time`; then cancels the rest and waits a
  // little. True: none is left.
  bool Drain(std::chrono::milliseconds time) IDEFICS_EXCLUDES(mutex_);

 private:
  struct Finished {
    std::shared_ptr<Job> job;
    size_t num_bytes = 0;
    std::chrono::steady_clock::time_point until;
  };
  using Dropped = std::vector<std::shared_ptr<Job>>;

  // What these return is to be destroyed without the lock.
  Dropped Retire(const std::shared_ptr<Job>& job, const Status& status) IDEFICS_REQUIRES(mutex_);
  Dropped RetireWaiting(const std::shared_ptr<Job>& job, const Status& status)
      IDEFICS_REQUIRES(mutex_);
  Dropped DropOld() IDEFICS_REQUIRES(mutex_);
  void NotePace() IDEFICS_REQUIRES(mutex_);
  bool IsFullFor(const Job& job) const IDEFICS_REQUIRES(mutex_);
  bool HasEnough(const std::string& client) const IDEFICS_REQUIRES(mutex_);
  void TakeSlot(const Job& job) IDEFICS_REQUIRES(mutex_);
  void GiveSlotBack(const Job& job) IDEFICS_REQUIRES(mutex_);

  const int max_queued_;
  const size_t max_finished_bytes_;
  JobMetrics* const metrics_;
  const int max_of_client_;
  std::atomic<int> num_queued_{0};
  std::atomic<int> max_slots_{0};
  std::atomic<int> used_slots_{0};

  mutable Mutex mutex_;
  CondVar drained_;
  std::unordered_map<std::string, std::shared_ptr<Job>> in_flight_ IDEFICS_GUARDED_BY(mutex_);
  FairQueue<std::shared_ptr<Job>> queue_ IDEFICS_GUARDED_BY(mutex_);
  std::unordered_map<std::string, int> slots_of_ IDEFICS_GUARDED_BY(mutex_);  // clients with some
  std::deque<Finished> finished_ IDEFICS_GUARDED_BY(mutex_);
  size_t finished_bytes_ IDEFICS_GUARDED_BY(mutex_) = 0;
  bool closed_ IDEFICS_GUARDED_BY(mutex_) = false;
  std::optional<TaskClocks::Clock::time_point> last_end_ IDEFICS_GUARDED_BY(mutex_);
  double mean_gap_s_ IDEFICS_GUARDED_BY(mutex_) = 0;  // between two ends; newer ones count more
};

}  // namespace idefics
