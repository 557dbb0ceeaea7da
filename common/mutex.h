// SPDX-License-Identifier: Apache-2.0
// std::mutex, its lock and its condition variables with the annotations of thread_annotations.h, so
// that clang proves who holds what. Nothing is added at run time: each call is one call of the
// standard class below it.
//
//   MutexLock lock(mutex_);
//   if (!arrived_.WaitFor(lock, 1s, [this]() IDEFICS_REQUIRES(mutex_) { return ready_; })) …;
//
// Predicates run with the lock held. A predicate that touches guarded members says so as above:
// clang looks at a lambda's body as at any other function's.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <utility>

#include "common/thread_annotations.h"

namespace idefics {

class IDEFICS_CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() IDEFICS_ACQUIRE() { mutex_.lock(); }
  void Unlock() IDEFICS_RELEASE() { mutex_.unlock(); }
  bool TryLock() IDEFICS_TRY_ACQUIRE(true) { return mutex_.try_lock(); }

  // For an interface of the standard library that wants its own type, where clang cannot follow.
  std::mutex& native() { return mutex_; }

 private:
  std::mutex mutex_;
};

// Holds a mutex from its construction to the end of its scope, but for the time between Unlock and
// Lock. One thread.
class IDEFICS_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) IDEFICS_ACQUIRE(mutex) : lock_(mutex.native()) {}
  ~MutexLock() IDEFICS_RELEASE() = default;
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  // REQUIRES: held.
  void Unlock() IDEFICS_RELEASE() { lock_.unlock(); }
  // REQUIRES: not held.
  void Lock() IDEFICS_ACQUIRE() { lock_.lock(); }

  std::unique_lock<std::mutex>& native() { return lock_; }

 private:
  std::unique_lock<std::mutex> lock_;
};

// REQUIRES (every wait): `lock` is held; it is held again when the wait returns. A wait without a
// predicate may return early for no reason.
class CondVar {
 public:
  CondVar() = default;
  CondVar(const CondVar&) = delete;
  CondVar& operator=(const CondVar&) = delete;

  void NotifyOne() { changed_.notify_one(); }
  void NotifyAll() { changed_.notify_all(); }

  void Wait(MutexLock& lock) { changed_.wait(lock.native()); }
  template <typename Predicate>
  void Wait(MutexLock& lock, Predicate predicate) {
    changed_.wait(lock.native(), std::move(predicate));
  }

  template <typename Clock, typename Duration>
  std::cv_status WaitUntil(MutexLock& lock,
                           const std::chrono::time_point<Clock, Duration>& deadline) {
    return changed_.wait_until(lock.native(), deadline);
  }
  // Whether the predicate held in time.
  template <typename Clock, typename Duration, typename Predicate>
  bool WaitUntil(MutexLock& lock, const std::chrono::time_point<Clock, Duration>& deadline,
                 Predicate predicate) {
    return changed_.wait_until(lock.native(), deadline, std::move(predicate));
  }

  template <typename Rep, typename Period>
  std::cv_status WaitFor(MutexLock& lock, const std::chrono::duration<Rep, Period>& time) {
    return changed_.wait_for(lock.native(), time);
  }
  // Whether the predicate held in time.
  template <typename Rep, typename Period, typename Predicate>
  bool WaitFor(MutexLock& lock, const std::chrono::duration<Rep, Period>& time,
               Predicate predicate) {
    return changed_.wait_for(lock.native(), time, std::move(predicate));
  }

 private:
  std::condition_variable changed_;
};

// A condition variable whose waits also end when a stop is requested. std::condition_variable_any
// has a lock of its own inside, so this is a class apart. Every wait returns what its predicate
// says at the end: false after a stop or the time-out. REQUIRES: as CondVar.
class StoppableCondVar {
 public:
  StoppableCondVar() = default;
  StoppableCondVar(const StoppableCondVar&) = delete;
  StoppableCondVar& operator=(const StoppableCondVar&) = delete;

  void NotifyOne() { changed_.notify_one(); }
  void NotifyAll() { changed_.notify_all(); }

  template <typename Predicate>
  bool Wait(MutexLock& lock, std::stop_token stop, Predicate predicate) {
    return changed_.wait(lock.native(), std::move(stop), std::move(predicate));
  }
  template <typename Clock, typename Duration, typename Predicate>
  bool WaitUntil(MutexLock& lock, std::stop_token stop,
                 const std::chrono::time_point<Clock, Duration>& deadline, Predicate predicate) {
    return changed_.wait_until(lock.native(), std::move(stop), deadline, std::move(predicate));
  }
  template <typename Rep, typename Period, typename Predicate>
  bool WaitFor(MutexLock& lock, std::stop_token stop,
               const std::chrono::duration<Rep, Period>& time, Predicate predicate) {
    return changed_.wait_for(lock.native(), std::move(stop), time, std::move(predicate));
  }

 private:
  std::condition_variable_any changed_;
};

}  // namespace idefics
