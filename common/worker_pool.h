// SPDX-License-Identifier: Apache-2.0
// Threads that run jobs; one is added whenever a job would have to wait, up to a limit, and one
// that was idle for a while ends. Thread safe.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace idefics {

class WorkerPool {
 public:
  // Idle threads beyond `keep` end after a few seconds. `max_waiting`: jobs that may wait for one.
  WorkerPool(int keep, int max_threads, int max_waiting);
  WorkerPool(int keep, int max_threads) : WorkerPool(keep, max_threads, max_threads) {}
  ~WorkerPool();  // runs what is queued, then joins
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // An exception of a job is logged, and the thread goes on. False: max_threads are busy and
  // max_waiting jobs wait already.
  bool Run(std::function<void()> job);

 private:
  void Work();

  const int keep_;
  const int max_threads_;
  const int max_waiting_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable all_ended_;
  std::deque<std::function<void()>> jobs_;
  int threads_ = 0;
  int idle_ = 0;
  bool stopping_ = false;
};

}  // namespace idefics
