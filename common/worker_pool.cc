// SPDX-License-Identifier: Apache-2.0
#include "common/worker_pool.h"

#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

#include "common/caught.h"

namespace idefics {
namespace {
constexpr auto kIdleTime = std::chrono::seconds(10);
}  // namespace

WorkerPool::WorkerPool(int keep, int max_threads, int max_waiting)
    : keep_(keep), max_threads_(max_threads), max_waiting_(max_waiting) {}

WorkerPool::~WorkerPool() {
  MutexLock lock(mutex_);
  stopping_ = true;
  work_.NotifyAll();
  // Threads are detached, so that an idle one can end by itself; here all of them are awaited.
  all_ended_.Wait(lock, [this]() IDEFICS_REQUIRES(mutex_) { return threads_ == 0; });
}

bool WorkerPool::Run(std::function<void()> job) {
  MutexLock lock(mutex_);
  if (static_cast<int>(jobs_.size()) >= idle_ && threads_ < max_threads_) {
    try {
      std::thread([this] { Work(); }).detach();
      ++threads_;
      ++idle_;  // it is about to take a job
    } catch (const std::system_error&) {
      if (threads_ == 0) return false;  // the operating system gives no thread: wait for another
    }
  }
  if (static_cast<int>(jobs_.size()) >= max_waiting_) return false;
  jobs_.push_back(std::move(job));
  work_.NotifyOne();
  return true;
}

void WorkerPool::Work() {
  MutexLock lock(mutex_);
  for (;;) {
    const auto wanted = [this]() IDEFICS_REQUIRES(mutex_) { return stopping_ || !jobs_.empty(); };
    const bool woken = work_.WaitFor(lock, kIdleTime, wanted);
    if (jobs_.empty()) {
      if (!stopping_ && (woken || threads_ <= keep_)) continue;
      --idle_;
      --threads_;
      all_ended_.NotifyAll();
      return;
    }
    --idle_;
    {
      std::function<void()> job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.Unlock();
      try {
        job();
      } catch (...) {
        LogCaught("A thread's work");
      }
    }
    lock.Lock();
    ++idle_;
  }
}

}  // namespace idefics
