// SPDX-License-Identifier: Apache-2.0
#include "common/mutex.h"

#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <future>
#include <stop_token>
#include <thread>
#include <vector>

namespace idefics {
namespace {

using std::chrono::hours;
using std::chrono::steady_clock;

// Whether another thread could take the mutex now.
bool FreeForOthers(Mutex& mutex) {
  return std::async(std::launch::async,
                    [&mutex] {
                      if (!mutex.TryLock()) return false;
                      mutex.Unlock();
                      return true;
                    })
      .get();
}

// A value that one thread sets and another one waits for.
class Flag {
 public:
  void Set() IDEFICS_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    set_ = true;
    changed_.NotifyAll();
    stoppable_.NotifyAll();
  }
  void Wait() IDEFICS_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    changed_.Wait(lock, [this]() IDEFICS_REQUIRES(mutex_) { return set_; });
  }
  void WaitInALoop() IDEFICS_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    while (!set_) changed_.Wait(lock);
  }
  template <typename Duration>
  bool WaitFor(Duration time) IDEFICS_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return changed_.WaitFor(lock, time, [this]() IDEFICS_REQUIRES(mutex_) { return set_; });
  }
  bool WaitUntil(steady_clock::time_point deadline) IDEFICS_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return changed_.WaitUntil(lock, deadline, [this]() IDEFICS_REQUIRES(mutex_) { return set_; });
  }
  bool WaitOrStop(std::stop_token stop) IDEFICS_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return stoppable_.Wait(lock, stop, [this]() IDEFICS_REQUIRES(mutex_) { return set_; });
  }
  bool WaitOrStopFor(std::stop_token stop, hours time) IDEFICS_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return stoppable_.WaitFor(lock, stop, time, [this]() IDEFICS_REQUIRES(mutex_) { return set_; });
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  StoppableCondVar stoppable_;
  bool set_ IDEFICS_GUARDED_BY(mutex_) = false;
};

TEST_CASE("a lock keeps others out until it ends or is unlocked", "[mutex]") {
  Mutex mutex;
  {
    MutexLock lock(mutex);
    CHECK(!FreeForOthers(mutex));
    lock.Unlock();
    CHECK(FreeForOthers(mutex));
    lock.Lock();
    CHECK(!FreeForOthers(mutex));
  }
  CHECK(FreeForOthers(mutex));
  {
    MutexLock lock(mutex);
    lock.Unlock();  // ends without being held: nothing is unlocked twice
  }
  CHECK(FreeForOthers(mutex));
}

TEST_CASE("threads that count under one mutex lose nothing", "[mutex]") {
  Mutex mutex;
  int count = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 10000; ++n) {
          MutexLock lock(mutex);
          ++count;
        }
      });
    }
  }
  CHECK(count == 40000);
}

TEST_CASE("a wait ends when its predicate holds, and not before", "[mutex]") {
  Flag flag;
  CHECK(!flag.WaitFor(std::chrono::milliseconds(1)));
  CHECK(!flag.WaitUntil(steady_clock::now() - hours(1)));
  std::jthread setter([&] { flag.Set(); });
  flag.Wait();
  flag.WaitInALoop();
  CHECK(flag.WaitFor(hours(1)));
  CHECK(flag.WaitUntil(steady_clock::now() - hours(1)));  // the predicate outranks the deadline
}

TEST_CASE("a wait without a predicate says whether its time ran out", "[mutex]") {
  Mutex mutex;
  CondVar changed;
  MutexLock lock(mutex);
  CHECK(changed.WaitUntil(lock, steady_clock::now() - hours(1)) == std::cv_status::timeout);
  CHECK(changed.WaitFor(lock, std::chrono::nanoseconds(0)) == std::cv_status::timeout);
  CHECK(!FreeForOthers(mutex));
}

TEST_CASE("a requested stop ends a wait", "[mutex]") {
  Flag flag;
  std::stop_source stop;
  std::jthread stopper([&] { stop.request_stop(); });
  CHECK(!flag.WaitOrStop(stop.get_token()));
  CHECK(!flag.WaitOrStopFor(stop.get_token(), hours(1)));  // one that came before the wait, too
  flag.Set();
  CHECK(flag.WaitOrStop(stop.get_token()));
}

TEST_CASE("a wait that can be stopped ends when its predicate holds", "[mutex]") {
  Flag flag;
  std::stop_source stop;
  std::jthread setter([&] { flag.Set(); });
  CHECK(flag.WaitOrStop(stop.get_token()));
  CHECK(flag.WaitOrStopFor(stop.get_token(), hours(1)));
}

}  // namespace
}  // namespace idefics
