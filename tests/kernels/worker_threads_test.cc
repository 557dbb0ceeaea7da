// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/cpu/worker_threads.h"

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace idefics {
namespace {

// Waits for another thread, whatever the machine's pace.
void Await(const std::atomic<int>& count, int value) {
  while (count < value) std::this_thread::yield();
}

TEST_CASE("helpers work beside the thread that calls") {
  WorkerThreads threads;
  for (const int count : {1, 2, 4, 3, 1, 2}) {
    for (int turn = 0; turn < 50; ++turn) {
      std::atomic<int> began{0};
      std::vector<std::thread::id> ids(static_cast<size_t>(count));
      threads.Run(count, [&](int number) {
        ids[static_cast<size_t>(number)] = std::this_thread::get_id();
        ++began;
        Await(began, count);  // all are there at one time
      });
      CHECK(began == count);
      CHECK(ids[0] == std::this_thread::get_id());
      CHECK(std::set(ids.begin(), ids.end()).size() == static_cast<size_t>(count));
    }
  }
}

TEST_CASE("all work is done however late helpers come, and none is at it afterwards") {
  WorkerThreads threads;
  for (int turn = 0; turn < 20'000; ++turn) {
    // On the heap, so that a sanitizer sees who comes too late.
    const auto next = std::make_unique<std::atomic<int>>(0);
    const auto done = std::make_unique<std::vector<int>>(5);
    threads.Run(3, [&](int) {
      for (int i = (*next)++; i < 5; i = (*next)++) ++(*done)[static_cast<size_t>(i)];
    });
    REQUIRE(*done == std::vector<int>(5, 1));
  }
}

TEST_CASE("what is thrown reaches the thread that calls, after all have ended") {
  WorkerThreads threads;
  for (const int thrower : {0, 1}) {
    std::atomic<int> began{0};
    std::atomic<int> ended{0};
    std::string what;
    try {
      threads.Run(2, [&](int number) {
        ++began;
        Await(began, 2);
        ++ended;
        if (number == thrower) throw std::runtime_error("thread " + std::to_string(number));
      });
    } catch (const std::runtime_error& error) {
      what = error.what();
    }
    CHECK(what == "thread " + std::to_string(thrower));
    CHECK(ended == 2);
  }
  std::atomic<int> calls{0};
  threads.Run(1, [&](int) { ++calls; });
  CHECK(calls == 1);
}

TEST_CASE("each thread has helpers of its own, which end with it") {
  std::vector<std::thread> callers;
  std::atomic<int> began{0};
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] {
      WorkerThreads::OfThisThread().Run(2, [&](int) {
        ++began;
        Await(began, 6);  // the helpers of all callers at one time
      });
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(began == 6);
}

}  // namespace
}  // namespace idefics
