// SPDX-License-Identifier: Apache-2.0
// RankGroup: where the threads of a model that is divided among devices wait for each other. Any
// thread, each as its own rank.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "common/mutex.h"
#include "common/status.h"

namespace idefics {

class RankGroup {
 public:
  // patience: how long a rank waits for the others before it takes them for lost.
  RankGroup(int ranks, std::chrono::milliseconds patience);

  int ranks() const { return static_cast<int>(places_[0].size()); }
  std::chrono::milliseconds patience() const { return patience_; }

  // Waits until every rank has called it as often as this one, and gives what each has brought, in
  // the ranks' order: valid until this rank's next Meet returns. Fails with the group's failure()
  // from the moment it has one.
  Result<std::span<const void* const>> Meet(int rank, const void* brought) IDEFICS_EXCLUDES(mutex_);

  // How often all of them have met.
  int64_t meetings() const IDEFICS_EXCLUDES(mutex_);

  // The smallest of the ranks' values: all ranks call it.
  Result<int64_t> Least(int rank, int64_t value);

  // A rank will not come any more. Wakes the others. The first failure stays.
  void Fail(const Status& why) IDEFICS_EXCLUDES(mutex_);
  // Ok, or why the group has failed.
  Status failure() const IDEFICS_EXCLUDES(mutex_);

  // Forgets a failure. REQUIRES: no rank is in Meet.
  void Restart() IDEFICS_EXCLUDES(mutex_);

 private:
  Status Missing() const IDEFICS_REQUIRES(mutex_);

  const std::chrono::milliseconds patience_;
  mutable Mutex mutex_;
  CondVar changed_;
  int64_t turn_ IDEFICS_GUARDED_BY(mutex_) = 0;  // meetings that have ended
  int arrived_ IDEFICS_GUARDED_BY(mutex_) = 0;   // ranks at the one that has not
  std::vector<bool> here_ IDEFICS_GUARDED_BY(mutex_);
  Status failure_ IDEFICS_GUARDED_BY(mutex_);
  // Of meetings with an even and an odd number: a rank may be at the next one while another still
  // reads.
  std::vector<const void*> places_[2];
};

}  // namespace idefics
