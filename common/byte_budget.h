// SPDX-License-Identifier: Apache-2.0
// A limit on the bytes that clients make the server hold, over all of them: bodies, what is made of
// them, downloads, kept jobs, answers under way. Whoever holds some has a share, which counts until
// it is destroyed. The counts are estimates; nothing is allocated here. Thread safe; a share
// belongs to one thread at a time.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <utility>

namespace idefics {

class ByteBudget {
 public:
  explicit ByteBudget(uint64_t limit) : limit_(limit) {}
  ByteBudget(const ByteBudget&) = delete;
  ByteBudget& operator=(const ByteBudget&) = delete;

  class Share {
   public:
    Share() = default;  // of no budget: grows without limit
    // `budget` must outlive this; nullptr: no limit.
    explicit Share(ByteBudget* budget) : budget_(budget) {}
    ~Share() { ShrinkTo(0); }
    Share(Share&& other) noexcept
        : budget_(other.budget_), num_bytes_(std::exchange(other.num_bytes_, 0)) {}
    Share& operator=(Share&& other) noexcept {
      if (this == &other) return *this;
      ShrinkTo(0);
      budget_ = other.budget_;
      num_bytes_ = std::exchange(other.num_bytes_, 0);
      return *this;
    }

    // False: the budget is spent, and nothing has changed.
    [[nodiscard]] bool Grow(uint64_t bytes) {
      if (budget_ != nullptr && !budget_->Take(bytes)) return false;
      num_bytes_ += bytes;
      return true;
    }
    [[nodiscard]] bool GrowTo(uint64_t bytes) {
      return bytes <= num_bytes_ || Grow(bytes - num_bytes_);
    }
    void ShrinkTo(uint64_t bytes) {
      if (bytes >= num_bytes_) return;
      if (budget_ != nullptr) budget_->used_ -= num_bytes_ - bytes;
      num_bytes_ = bytes;
    }

    uint64_t num_bytes() const { return num_bytes_; }
    // Whether so much could be taken now: to refuse before anything is read.
    bool Fits(uint64_t bytes) const {
      return budget_ == nullptr ||
             bytes <= budget_->limit_ - std::min(budget_->limit_, budget_->used());
    }

   private:
    ByteBudget* budget_ = nullptr;
    uint64_t num_bytes_ = 0;
  };

  uint64_t limit() const { return limit_; }
  uint64_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  bool Take(uint64_t bytes) {
    uint64_t used = used_.load(std::memory_order_relaxed);
    do {
      if (bytes > limit_ || used > limit_ - bytes) return false;
    } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    return true;
  }

  const uint64_t limit_;
  std::atomic<uint64_t> used_{0};
};

}  // namespace idefics
