// SPDX-License-Identifier: Apache-2.0
#include "predictor/images/decode_memory.h"

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

namespace idefics {
namespace {

// An image that asks for bytes on a thread of its own and holds them until it is released.
class Image {
 public:
  Image(DecodeMemory* memory, int64_t bytes) : share_(memory) {
    thread_ = std::thread([this, bytes] {
      status_ = share_->Take(bytes, stop_.get_token());
      done_ = true;
    });
  }
  ~Image() {
    stop_.request_stop();
    thread_.join();
  }

  bool done() const { return done_; }
  void Stop() { stop_.request_stop(); }
  ErrorCode Wait() const {
    while (!done_) std::this_thread::yield();
    return status_.code();
  }
  void Release() {
    REQUIRE(Wait() == ErrorCode::kOk);
    share_.reset();
  }

 private:
  std::optional<DecodeMemory::Share> share_;
  std::stop_source stop_;
  Status status_;
  std::atomic<bool> done_ = false;
  std::thread thread_;
};

TEST_CASE("images that fit together are decoded together", "[decode-memory]") {
  DecodeMemory memory(100);
  Image first(&memory, 60);
  Image second(&memory, 40);
  CHECK(first.Wait() == ErrorCode::kOk);
  CHECK(second.Wait() == ErrorCode::kOk);
}

TEST_CASE("an image that does not fit waits, and those behind it, too", "[decode-memory]") {
  DecodeMemory memory(100);
  Image first(&memory, 60);
  REQUIRE(first.Wait() == ErrorCode::kOk);
  DecodeMemory::Share small(&memory);
  {
    Image large(&memory, 50);
    while (memory.num_waiting() < 1) std::this_thread::yield();
    Image behind(&memory, 10);
    while (memory.num_waiting() < 2) std::this_thread::yield();
    CHECK_FALSE(large.done());
    CHECK_FALSE(behind.done());
    first.Release();
    CHECK(large.Wait() == ErrorCode::kOk);
    CHECK(behind.Wait() == ErrorCode::kOk);
  }
  CHECK(small.Take(100, {}).ok());
}

TEST_CASE("an image larger than the limit waits until it is alone", "[decode-memory]") {
  DecodeMemory memory(100);
  Image first(&memory, 10);
  REQUIRE(first.Wait() == ErrorCode::kOk);
  Image huge(&memory, 1000);
  while (memory.num_waiting() < 1) std::this_thread::yield();
  CHECK_FALSE(huge.done());
  first.Release();
  CHECK(huge.Wait() == ErrorCode::kOk);
}

TEST_CASE("an image that is canceled while it waits lets the next pass", "[decode-memory]") {
  DecodeMemory memory(100);
  Image first(&memory, 60);
  REQUIRE(first.Wait() == ErrorCode::kOk);
  Image large(&memory, 50);
  while (memory.num_waiting() < 1) std::this_thread::yield();
  Image behind(&memory, 10);
  while (memory.num_waiting() < 2) std::this_thread::yield();
  large.Stop();
  CHECK(large.Wait() == ErrorCode::kCanceled);
  CHECK(behind.Wait() == ErrorCode::kOk);
}

}  // namespace
}  // namespace idefics
