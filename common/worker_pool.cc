// SPDX-License-Identifier: Apache-2.0
#include "common/worker_pool.h"

#include <algorithm>
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
  for (Seat* seat : idle_) seat->given.NotifyOne();
  // Threads are detached, so that an idle one can end by itself; here all of them are awaited.
  all_ended_.Wait(lock, [this]() IDEFICS_REQUIRES(mutex_) { return threads_ == 0; });
}

bool WorkerPool::Run(Job job) {
  const MutexLock lock(mutex_);
  if (!idle_.empty()) {
    Seat* seat = idle_.back();
    idle_.pop_back();
    seat->job = std::move(job);
    seat->given.NotifyOne();
    return true;
  }
  if (threads_ < max_threads_) {
    idle_.reserve(static_cast<size_t>(threads_) + 1);  // so that no thread fails to wait
    try {
      std::thread([this, job] { Work(job); }).detach();
      ++threads_;
      return true;
    } catch (const std::system_error&) {
      if (threads_ == 0) return false;  // the operating system gives no thread: wait for another
    }
  }
  if (static_cast<int>(jobs_.size()) >= max_waiting_) return false;
  jobs_.push_back(std::move(job));
  return true;
}

int WorkerPool::num_idle() {
  const MutexLock lock(mutex_);
  return static_cast<int>(idle_.size());
}

// Empty: the thread is to end.
WorkerPool::Job WorkerPool::NextJob(MutexLock& lock, Seat& seat) {
  if (!jobs_.empty()) {
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    return job;
  }
  idle_.push_back(&seat);
  const auto wanted = [&]() IDEFICS_REQUIRES(mutex_) { return stopping_ || seat.job != nullptr; };
  while (!seat.given.WaitFor(lock, kIdleTime, wanted) && threads_ <= keep_) {
  }
  if (seat.job == nullptr) std::erase(idle_, &seat);
  return std::exchange(seat.job, nullptr);
}

void WorkerPool::Work(Job job) {
  Seat seat;
  while (job != nullptr) {
    try {
      job();
    } catch (...) {
      LogCaught("A thread's work");
    }
    job = nullptr;  // what it holds ends here, without the lock
    MutexLock lock(mutex_);
    job = NextJob(lock, seat);
    if (job != nullptr) continue;
    --threads_;
    all_ended_.NotifyAll();
  }
}

}  // namespace idefics
