// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/cpu/worker_threads.h"

#include <chrono>
#include <utility>

namespace idefics {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kOpen = 1;
constexpr uint64_t kHelper = 2;
constexpr int kWorkShift = 32;
constexpr uint64_t kWork = uint64_t{1} << kWorkShift;

constexpr int kLooks = 64;                                        // before giving way: 1 to 3 µs
constexpr Clock::duration kAwake = std::chrono::milliseconds{1};  // of a helper without work

uint64_t WorkOf(uint64_t state) { return state >> kWorkShift; }

// Tells the core that this is a loop that waits.
void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks until `found`; false: it was not, for some microseconds, and others had the CPU if they
// wanted it.
template <typename Found>
bool Look(const Found& found) {
  for (int i = 0; i < kLooks; ++i) {
    if (found()) return true;
    Pause();
  }
  std::this_thread::yield();
  return false;
}

}  // namespace

WorkerThreads& WorkerThreads::OfThisThread() {
  thread_local WorkerThreads threads;
  return threads;
}

void WorkerThreads::Run(int threads, const std::function<void(int)>& run) {
  if (threads <= 1) return run(0);
  if (helpers_.size() != static_cast<size_t>(threads - 1)) {
    End();
    Begin(threads - 1);
  }
  run_ = &run;
  state_.store((WorkOf(state_.load(std::memory_order_relaxed)) + 1) << kWorkShift | kOpen,
               std::memory_order_release);
  state_.notify_all();
  Call(0);
  state_.fetch_and(~kOpen, std::memory_order_relaxed);
  while (!Look([&] { return state_.load(std::memory_order_acquire) % kWork == 0; })) {
  }
  MutexLock lock(thrown_mutex_);
  if (thrown_ != nullptr) std::rethrow_exception(std::exchange(thrown_, nullptr));
}

void WorkerThreads::Begin(int helpers) {
  for (int number = 1; number <= helpers; ++number) {
    helpers_.emplace_back([this, number] { Help(number); });
  }
}

void WorkerThreads::End() {
  ends_ = true;
  state_.fetch_add(kWork, std::memory_order_release);
  state_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
  helpers_.clear();
  ends_ = false;
}

void WorkerThreads::Help(int number) {
  uint64_t done = 0;
  while (AwaitWork(done)) {
    uint64_t state = state_.load(std::memory_order_relaxed);
    if (state % kHelper != kOpen || WorkOf(state) == done) continue;
    if (!state_.compare_exchange_weak(state, state + kHelper, std::memory_order_acquire)) continue;
    done = WorkOf(state);
    Call(number);
    state_.fetch_sub(kHelper, std::memory_order_release);
  }
}

// Returns when there is work but that of number `done`; false: the helpers end.
bool WorkerThreads::AwaitWork(uint64_t done) {
  Clock::time_point sleeps = Clock::now() + kAwake;
  uint64_t state = 0;
  while (!Look([&] {
    state = state_.load(std::memory_order_acquire);
    return ends_ || (state % kHelper == kOpen && WorkOf(state) != done);
  })) {
    if (Clock::now() < sleeps) continue;
    state_.wait(state, std::memory_order_acquire);
    sleeps = Clock::now() + kAwake;
  }
  return !ends_;
}

void WorkerThreads::Call(int number) {
  try {
    (*run_)(number);
  } catch (...) {
    MutexLock lock(thrown_mutex_);
    thrown_ = std::current_exception();
  }
}

}  // namespace idefics
