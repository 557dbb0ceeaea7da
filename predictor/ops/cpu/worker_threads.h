// SPDX-License-Identifier: Apache-2.0
// The threads that help one that calls operators. OpenMP's do not suit a decode step: they sleep
// between two operators, and a virtual CPU that has halted may take milliseconds to run again, or
// they spin as long as a setting of the whole process says; and who begins a region waits for all
// of them, also for one that wakes when the work is done.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

#include "common/mutex.h"

namespace idefics {

// One thread's helpers. After a piece of work they look for the next one without sleeping, giving
// way to whoever wants their CPU, for as long as a decode step has gaps; then they sleep.
class WorkerThreads {
 public:
  // Those of the calling thread, which end with it.
  static WorkerThreads& OfThisThread();

  WorkerThreads() = default;
  ~WorkerThreads() { End(); }
  WorkerThreads(const WorkerThreads&) = delete;
  WorkerThreads& operator=(const WorkerThreads&) = delete;

  // Calls run(0) here and, meanwhile, run(1) … run(threads - 1) elsewhere, each at most once:
  // nobody waits for a helper that comes when run(0) has returned, and it finds nothing to do. So
  // run(0) does what the others have not begun. Returns when all that began have ended, and throws
  // what one of them threw. REQUIRES: called by one thread, not from within `run`.
  void Run(int threads, const std::function<void(int)>& run);

 private:
  void Begin(int helpers);
  void End();
  void Help(int number);
  bool AwaitWork(uint64_t done);
  void Call(int number) IDEFICS_EXCLUDES(thrown_mutex_);

  // How many pieces of work there were (the high half), how many helpers are at the last one, and
  // whether others may join it (the lowest bit).
  std::atomic<uint64_t> state_{0};
  std::atomic<bool> ends_{false};
  const std::function<void(int)>* run_ = nullptr;  // written while no helper may join
  Mutex thrown_mutex_;
  std::exception_ptr thrown_ IDEFICS_GUARDED_BY(thrown_mutex_);
  std::vector<std::thread> helpers_;
};

}  // namespace idefics
