// SPDX-License-Identifier: Apache-2.0
// Threads that run jobs; one is added whenever a job would have to wait, up to a limit, and one
// that was idle for a while ends. Thread safe.
#pragma once

#include <deque>
#include <functional>

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

 private:
  void Work() IDEFICS_EXCLUDES(mutex_);

  const int keep_;
  const int max_threads_;
  const int max_waiting_;
  Mutex mutex_;
  CondVar work_;
  CondVar all_ended_;
  std::deque<std::function<void()>> jobs_ IDEFICS_GUARDED_BY(mutex_);
  int threads_ IDEFICS_GUARDED_BY(mutex_) = 0;
  int idle_ IDEFICS_GUARDED_BY(mutex_) = 0;
  bool stopping_ IDEFICS_GUARDED_BY(mutex_) = false;
};

}  // namespace idefics
