// SPDX-License-Identifier: Apache-2.0
#include "predictor/images/decode_memory.h"

#include "common/check.h"

namespace idefics {

DecodeMemory::Share::~Share() {
  if (num_bytes_ == 0) return;
  MutexLock lock(memory_->mutex_);
  memory_->used_ -= num_bytes_;
  memory_->freed_.NotifyAll();
}

Status DecodeMemory::Share::Take(int64_t bytes, const std::stop_token& stop) {
  IDEFICS_CHECK_EQ(num_bytes_, 0);
  MutexLock lock(memory_->mutex_);
  const auto place = memory_->waiting_.insert(memory_->waiting_.end(), this);
  const bool free = memory_->freed_.Wait(lock, stop, [&]() IDEFICS_REQUIRES(memory_->mutex_) {
    return memory_->waiting_.front() == this &&
           (memory_->used_ == 0 || memory_->used_ + bytes <= memory_->limit_);
  });
  memory_->waiting_.erase(place);
  memory_->freed_.NotifyAll();  // the next may fit, too
  if (!free) return Status(ErrorCode::kCanceled, "canceled");
  memory_->used_ += bytes;
  num_bytes_ = bytes;
  return Status::Ok();
}

}  // namespace idefics
