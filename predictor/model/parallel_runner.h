// SPDX-License-Identifier: Apache-2.0
// ParallelRunner: one model on several devices, as the engine sees one. Each rank is a runner of
// its own on a thread of its own, holds a part of the weights and of the caches, and computes every
// step of all of them; where their parts meet they wait for each other in a RankGroup. Rank 0's
// logits are the model's. docs/gpu.md#several-devices.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "predictor/model/model_runner.h"
#include "predictor/model/rank_group.h"

namespace idefics {

class ParallelRunner : public ModelRunner {
 public:
  using MakeRank = std::function<Result<std::unique_ptr<ModelRunner>>(int rank)>;

  // Makes the ranks at the same time, each on the thread that will run it. REQUIRES: their limits
  // are alike.
  static Result<std::unique_ptr<ModelRunner>> Make(std::shared_ptr<RankGroup> group,
                                                   const MakeRank& make);
  // Does not wait for a rank that is lost: its thread keeps what it uses.
  ~ParallelRunner() override;

  const RunnerLimits& limits() const override { return limits_; }
  Status BeginImages(std::span<const ImageInput> images) override;
  Result<bool> ContinueImages(bool wait) override;
  Status StartStep(std::span<const StepRow> rows) override;
  Status FinishStep(StepOutput* output) override;
  Status CopyKv(std::span<const KvCopy> copies) override;
  // Also once a rank does not answer any more.
  bool broken() const override;

 private:
  struct Team;
  using Job = std::function<Status(int rank, std::unique_ptr<ModelRunner>& runner)>;

  explicit ParallelRunner(std::shared_ptr<RankGroup> group);
  static void Work(const std::shared_ptr<Team>& team, int rank);

  // Runs the job on every rank's thread and waits for all. The first failure is the result;
  // results_ holds each rank's. What the job refers to must live as long as it does: a lost rank
  // may read it later.
  Status OnAll(const Job& job);
  size_t ranks() const { return threads_.size(); }

  const std::shared_ptr<Team> team_;
  std::vector<std::thread> threads_;
  RunnerLimits limits_;
  bool is_loading_ = true;
  Status lost_;                  // why no rank is asked any more
  std::vector<Status> results_;  // of the last job
  // Steps that each rank has in flight; false: one that another rank failed to start.
  std::vector<std::deque<bool>> in_flight_;
  std::shared_ptr<std::vector<char>> images_done_;  // by rank
};

}  // namespace idefics
