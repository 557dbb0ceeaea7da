// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/rank_group.h"

#include <algorithm>
#include <string>

#include "common/check.h"

namespace idefics {

RankGroup::RankGroup(int ranks, std::chrono::milliseconds patience) : patience_(patience) {
  IDEFICS_CHECK(ranks > 0);
  here_.resize(static_cast<size_t>(ranks));
  for (auto& places : places_) places.resize(static_cast<size_t>(ranks));
}

Result<std::span<const void* const>> RankGroup::Meet(int rank, const void* brought) {
  MutexLock lock(mutex_);
  if (!failure_.ok()) return failure_;
  const auto at = static_cast<size_t>(rank);
  IDEFICS_CHECK(at < here_.size() && !here_[at]);
  const int64_t turn = turn_;
  std::vector<const void*>& places = places_[turn % 2];
  places[at] = brought;
  here_[at] = true;
  if (++arrived_ == ranks()) {
    arrived_ = 0;
    here_.assign(here_.size(), false);
    ++turn_;
    changed_.NotifyAll();
    return std::span<const void* const>(places);
  }
  changed_.WaitFor(lock, patience_, [this, turn]() IDEFICS_REQUIRES(mutex_) {
    return turn_ != turn || !failure_.ok();
  });
  if (turn_ != turn) return std::span<const void* const>(places);
  if (failure_.ok()) {
    failure_ = Missing();
    changed_.NotifyAll();
  }
  return failure_;
}

Status RankGroup::Missing() const {
  std::string names;
  for (size_t rank = 0; rank < here_.size(); ++rank) {
    if (!here_[rank]) names += (names.empty() ? "" : ", ") + std::to_string(rank);
  }
  return Status::Internal("of " + std::to_string(ranks()) + " ranks, " + names +
                          " did not come within " + std::to_string(patience_.count()) + " ms");
}

int64_t RankGroup::meetings() const {
  const MutexLock lock(mutex_);
  return turn_;
}

Result<int64_t> RankGroup::Least(int rank, int64_t value) {
  ASSIGN_OR_RETURN(const auto brought, Meet(rank, &value));
  int64_t least = value;
  for (const void* other : brought) least = std::min(least, *static_cast<const int64_t*>(other));
  RETURN_IF_ERROR(Meet(rank, nullptr).status());  // all have read `value`
  return least;
}

void RankGroup::Fail(const Status& why) {
  const MutexLock lock(mutex_);
  if (failure_.ok()) failure_ = why;
  changed_.NotifyAll();
}

Status RankGroup::failure() const {
  const MutexLock lock(mutex_);
  return failure_;
}

void RankGroup::Restart() {
  const MutexLock lock(mutex_);
  failure_ = Status::Ok();
  arrived_ = 0;
  here_.assign(here_.size(), false);
}

}  // namespace idefics
