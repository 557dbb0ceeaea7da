// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/parallel_runner.h"

#include <pthread.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "common/check.h"
#include "common/mutex.h"

namespace idefics {
namespace {

// Rows with all that they point to.
class OwnedRows {
 public:
  explicit OwnedRows(std::span<const StepRow> rows) : rows_(rows.begin(), rows.end()) {
    size_t tokens = 0;
    for (const StepRow& row : rows) tokens += row.tokens.size();
    numbers_.reserve(2 * tokens);
    sampling_.reserve(rows.size());
    for (StepRow& row : rows_) {
      row.tokens = Keep(row.tokens);
      row.image_slots = Keep(row.image_slots);
      if (row.sampling == nullptr) continue;
      sampling_.push_back(*row.sampling);
      row.sampling = &sampling_.back();
    }
  }
  OwnedRows(const OwnedRows&) = delete;
  OwnedRows& operator=(const OwnedRows&) = delete;

  std::span<const StepRow> rows() const { return rows_; }

 private:
  std::span<const int32_t> Keep(std::span<const int32_t> values) {
    const size_t begin = numbers_.size();
    numbers_.insert(numbers_.end(), values.begin(), values.end());
    return std::span<const int32_t>(numbers_).subspan(begin);
  }

  std::vector<StepRow> rows_;
  std::vector<int32_t> numbers_;                // of its final capacity from the start
  std::vector<DeviceSamplingParams> sampling_;  // as numbers_
};

// Images with their pixels.
class OwnedImages {
 public:
  explicit OwnedImages(std::span<const ImageInput> images) : images_(images.begin(), images.end()) {
    pixels_.reserve(images.size());
    for (ImageInput& image : images_) {
      image.pixels = pixels_.emplace_back(image.pixels.begin(), image.pixels.end());
    }
  }
  OwnedImages(const OwnedImages&) = delete;
  OwnedImages& operator=(const OwnedImages&) = delete;

  std::span<const ImageInput> images() const { return images_; }

 private:
  std::vector<ImageInput> images_;
  std::vector<std::vector<float>> pixels_;
};

}  // namespace

// What the ranks' threads and the engine's share.
struct ParallelRunner::Team {
  explicit Team(std::shared_ptr<RankGroup> shared)
      : group(std::move(shared)), runners(static_cast<size_t>(group->ranks())) {
    jobs.resize(runners.size());
    results.resize(runners.size());
    busy.resize(runners.size());
  }

  const std::shared_ptr<RankGroup> group;
  std::vector<std::unique_ptr<ModelRunner>> runners;  // each is its thread's while that is busy
  Mutex mutex;
  CondVar changed;
  std::vector<Job> jobs IDEFICS_GUARDED_BY(mutex);  // empty: taken, or none
  std::vector<Status> results IDEFICS_GUARDED_BY(mutex);
  std::vector<bool> busy IDEFICS_GUARDED_BY(mutex);
  bool stop IDEFICS_GUARDED_BY(mutex) = false;

  bool IsIdle() const IDEFICS_REQUIRES(mutex) {
    return std::ranges::find(busy, true) == busy.end();
  }
  bool HasResult() const IDEFICS_REQUIRES(mutex) {
    return std::ranges::find(busy, false) != busy.end();
  }

  // Waits until all are idle. False: at least one rank is lost. They do the same work: when one is
  // done, the others are at most late. Ranks that meet on their devices are all kept by one that
  // hangs; without meetings here for so long, all are taken for lost. The first look only counts
  // them: where ranks meet here, the one that comes is to say first that another does not.
  bool AwaitIdle(MutexLock& lock, bool is_loading) IDEFICS_REQUIRES(mutex) {
    const auto has_result = [this]() IDEFICS_REQUIRES(mutex) { return HasResult(); };
    if (is_loading) changed.Wait(lock, has_result);  // disks may be slow
    int64_t meetings = -1;
    while (!changed.WaitFor(lock, group->patience(), has_result)) {
      const int64_t before = std::exchange(meetings, group->meetings());
      if (meetings == before) return false;
    }
    return changed.WaitFor(lock, group->patience(),
                           [this]() IDEFICS_REQUIRES(mutex) { return IsIdle(); });
  }

  // REQUIRES: not IsIdle().
  std::string Missing() const IDEFICS_REQUIRES(mutex) {
    const std::string all = std::to_string(busy.size());
    if (!HasResult()) return "none of " + all + " ranks answers any more";
    const auto first = std::ranges::find(busy, true) - busy.begin();
    return "rank " + std::to_string(first) + " of " + all + " does not answer any more";
  }
};

ParallelRunner::ParallelRunner(std::shared_ptr<RankGroup> group)
    : team_(std::make_shared<Team>(std::move(group))) {
  const size_t ranks = team_->runners.size();
  in_flight_.resize(ranks);
  for (size_t rank = 0; rank < ranks; ++rank) {
    threads_.emplace_back([team = team_, rank] { Work(team, static_cast<int>(rank)); });
  }
}

Result<std::unique_ptr<ModelRunner>> ParallelRunner::Make(std::shared_ptr<RankGroup> group,
                                                          const MakeRank& make) {
  std::unique_ptr<ParallelRunner> parallel(new ParallelRunner(std::move(group)));
  RETURN_IF_ERROR(parallel->OnAll([make](int rank, std::unique_ptr<ModelRunner>& runner) -> Status {
    ASSIGN_OR_RETURN(runner, make(rank));
    return Status::Ok();
  }));
  parallel->is_loading_ = false;
  parallel->limits_ = parallel->team_->runners.front()->limits();
  for (const auto& runner : parallel->team_->runners) {
    parallel->limits_.AddDevice(runner->limits().device);
    IDEFICS_CHECK_EQ(runner->limits().kv_tokens, parallel->limits_.kv_tokens);
    IDEFICS_CHECK_EQ(runner->limits().image_cache_slots, parallel->limits_.image_cache_slots);
  }
  return std::unique_ptr<ModelRunner>(std::move(parallel));
}

ParallelRunner::~ParallelRunner() {
  std::vector<bool> busy;
  {
    const MutexLock lock(team_->mutex);
    team_->stop = true;
    busy = team_->busy;
    team_->changed.NotifyAll();
  }
  for (size_t rank = 0; rank < ranks(); ++rank) {
    if (busy[rank]) {
      threads_[rank].detach();
    } else {
      threads_[rank].join();
    }
  }
}

void ParallelRunner::Work(const std::shared_ptr<Team>& team, int rank) {
  const auto at = static_cast<size_t>(rank);
  pthread_setname_np(pthread_self(), ("rank " + std::to_string(rank)).c_str());  // for top -H
  std::unique_ptr<ModelRunner>& runner = team->runners[at];
  for (;;) {
    Job job;
    {
      MutexLock lock(team->mutex);
      team->changed.Wait(lock, [&]() IDEFICS_REQUIRES(team->mutex) {
        return team->stop || team->jobs[at] != nullptr;
      });
      if (team->stop) break;
      job = std::exchange(team->jobs[at], nullptr);
    }
    Status result;
    try {
      result = job(rank, runner);
    } catch (const std::exception& error) {
      result = Status::Internal(error.what());
    }
    result = result.WithPrefix("rank " + std::to_string(rank));
    if (!result.ok()) team->group->Fail(result);
    const MutexLock lock(team->mutex);
    team->results[at] = std::move(result);
    team->busy[at] = false;
    team->changed.NotifyAll();
  }
  runner.reset();  // on the thread that made it
}

Status ParallelRunner::OnAll(const Job& job) {
  RETURN_IF_ERROR(lost_);
  MutexLock lock(team_->mutex);
  std::ranges::fill(team_->jobs, job);
  team_->busy.assign(ranks(), true);
  team_->changed.NotifyAll();
  if (!team_->AwaitIdle(lock, is_loading_)) {
    lost_ = Status::Internal(team_->Missing() + ": nothing runs until a restart");
    team_->group->Fail(lost_);
    return lost_;
  }
  results_ = team_->results;
  const Status failure = team_->group->failure();
  if (!failure.ok()) team_->group->Restart();
  return failure;
}

Status ParallelRunner::BeginImages(std::span<const ImageInput> images) {
  images_done_ = std::make_shared<std::vector<char>>(ranks(), 0);
  const auto own = std::make_shared<const OwnedImages>(images);
  return OnAll([own](int /*rank*/, std::unique_ptr<ModelRunner>& runner) {
    return runner->BeginImages(own->images());
  });
}

Result<bool> ParallelRunner::ContinueImages(bool wait) {
  const auto done = images_done_;
  RETURN_IF_ERROR(OnAll([done, wait](int rank, std::unique_ptr<ModelRunner>& runner) -> Status {
    char& mine = (*done)[static_cast<size_t>(rank)];
    if (mine != 0) return Status::Ok();
    ASSIGN_OR_RETURN(mine, runner->ContinueImages(wait));
    return Status::Ok();
  }));
  return std::ranges::find(*done, 0) == done->end();
}

Status ParallelRunner::StartStep(std::span<const StepRow> rows) {
  const auto own = std::make_shared<const OwnedRows>(rows);
  const Status status = OnAll([own](int /*rank*/, std::unique_ptr<ModelRunner>& runner) {
    return runner->StartStep(own->rows());
  });
  if (!lost_.ok()) return status;
  for (size_t rank = 0; rank < ranks(); ++rank) {
    if (results_[rank].ok()) in_flight_[rank].push_back(status.ok());
  }
  return status;
}

Status ParallelRunner::FinishStep(StepOutput* output) {
  std::vector<int> failed(ranks(), 0);  // steps in front of the one that all have started
  for (size_t rank = 0; rank < ranks(); ++rank) {
    while (!in_flight_[rank].front()) {
      in_flight_[rank].pop_front();
      ++failed[rank];
    }
    in_flight_[rank].pop_front();
  }
  const auto outputs = std::make_shared<std::vector<StepOutput>>(ranks());
  const Status status = OnAll([outputs, failed](int rank, std::unique_ptr<ModelRunner>& runner) {
    const auto at = static_cast<size_t>(rank);
    for (int step = 0; step < failed[at]; ++step) {
      StepOutput unwanted;
      RETURN_IF_ERROR(runner->FinishStep(&unwanted));
    }
    return runner->FinishStep(&(*outputs)[at]);
  });
  if (status.ok()) *output = std::move(outputs->front());
  return status;
}

Status ParallelRunner::CopyKv(std::span<const KvCopy> copies) {
  const auto own = std::make_shared<const std::vector<KvCopy>>(copies.begin(), copies.end());
  return OnAll(
      [own](int /*rank*/, std::unique_ptr<ModelRunner>& runner) { return runner->CopyKv(*own); });
}

bool ParallelRunner::broken() const {
  return !lost_.ok() ||
         std::ranges::any_of(team_->runners, [](const auto& runner) { return runner->broken(); });
}

}  // namespace idefics
