// SPDX-License-Identifier: Apache-2.0
// Threads that run jobs; one is added whenever a job would have to wait, up to a limit, and one
// that was idle for a while ends. A job goes to the thread that became idle last, whose stack and
// caches are warm, so that the threads of a past burst do end. Thread safe.
#pragma once

#include <deque>
#include <functional>
#include <vector>

#include "common/mutex.h"

namespace idefics {

class WorkerPool {
 public:
  // Idle threads beyond `keep` end after a few seconds. `max_waiting`: jobs that may wait for one.
  WorkerPool(int keep, int max_threads, int max_waiting);
  WorkerPool(int keep, int max_threads) : WorkerPool(keep, max_threads, max_threads) {}
  ~WorkerPool() IDEFICS_EXCLUDES(mutex_);  // runs what is queued, then joins
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // An exception of a job is logged, and the thread goes on. False: max_threads are busy and
  // max_waiting jobs wait already.
  bool Run(std::function<void()> job) IDEFICS_EXCLUDES(mutex_);
  int num_idle() IDEFICS_EXCLUDES(mutex_);

 private:
  using Job = std::function<void()>;

  // A thread's own place to wait, on its stack while it is in idle_. Guarded by mutex_.
  struct Seat {
    CondVar given;
    Job job;
  };

  void Work(Job job) IDEFICS_EXCLUDES(mutex_);
  Job NextJob(MutexLock& lock, Seat& seat) IDEFICS_REQUIRES(mutex_);

  const int keep_;
  const int max_threads_;
  const int max_waiting_;
  Mutex mutex_;
  CondVar all_ended_;
  std::deque<Job> jobs_ IDEFICS_GUARDED_BY(mutex_);  // empty while a thread is idle
  std::vector<Seat*> idle_ IDEFICS_GUARDED_BY(mutex_);
  int threads_ IDEFICS_GUARDED_BY(mutex_) = 0;
  bool stopping_ IDEFICS_GUARDED_BY(mutex_) = false;
};

}  // namespace idefics
