// SPDX-License-Identifier: Apache-2.0
// The bytes that all images may hold that are being decoded at one time. An image that does not fit
// waits for those before it, first come, first served: a queue of large images takes its time, not
// the machine's memory. Thread safe; a share belongs to one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <stop_token>

#include "common/mutex.h"
#include "common/status.h"

namespace idefics {

class DecodeMemory {
 public:
  // Two of the largest images at a time, or a dozen of 12 megapixels and more.
  static constexpr int64_t kAmpleBytes = int64_t{2} << 30;

  explicit DecodeMemory(int64_t limit) : limit_(limit) {}
  DecodeMemory(const DecodeMemory&) = delete;
  DecodeMemory& operator=(const DecodeMemory&) = delete;

  // What one image holds, until this is destroyed.
  class Share {
   public:
    explicit Share(DecodeMemory* memory) : memory_(memory) {}
    ~Share();
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;

    // Blocks until the bytes are free; more than the limit, until nobody else holds any.
    // kCanceled when a stop was requested. REQUIRES: the share is empty.
    Status Take(int64_t bytes, const std::stop_token& stop);

   private:
    DecodeMemory* memory_;
    int64_t num_bytes_ = 0;
  };

  size_t num_waiting() const {
    MutexLock lock(mutex_);
    return waiting_.size();
  }

 private:
  const int64_t limit_;
  mutable Mutex mutex_;
  StoppableCondVar freed_;
  int64_t used_ IDEFICS_GUARDED_BY(mutex_) = 0;
  std::list<const Share*> waiting_ IDEFICS_GUARDED_BY(mutex_);  // in the order of their coming
};

}  // namespace idefics
