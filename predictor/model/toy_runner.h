// SPDX-License-Identifier: Apache-2.0
// ToyRunner: a model without weights whose logits are an exact, computable function of everything
// that a sequence has seen (its tokens and images, in order). If the engine mixes up rows, reads
// another sequence's KV or forgets an image, the tokens change. For tests of the engine and the
// server.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "predictor/model/model_runner.h"

namespace idefics {

// Calls of ContinueImage that encode one image.
constexpr int32_t kToyImageParts = 3;

class ToyRunner : public ModelRunner {
 public:
  explicit ToyRunner(RunnerLimits limits);

  const RunnerLimits& limits() const override { return limits_; }
  Status BeginImage(std::span<const float> pixels, int32_t slot) override;
  Result<bool> ContinueImage(bool wait) override;
  Status StartStep(std::span<const StepRow> rows) override;
  Status FinishStep(StepOutput* output) override;
  Status CopyKv(std::span<const KvCopy> copies) override;

  // Called at the start of every step with its number; StartStep returns its failure.
  void set_fault(std::function<Status(int64_t step)> fault) { fault_ = std::move(fault); }
  // Called at the end of every step; FinishStep returns its failure, and what the step wrote to the
  // arena is spoilt.
  void set_late_fault(std::function<Status(int64_t step)> fault) { late_fault_ = std::move(fault); }
  // Called before every part of an image.
  void set_image_fault(std::function<Status(int32_t part)> fault) {
    image_fault_ = std::move(fault);
  }
  // Called at the start of every step, and with no rows at every part of an image, on the calling
  // thread.
  void set_observer(std::function<void(std::span<const StepRow> rows)> observer) {
    observer_ = std::move(observer);
  }
  bool broken() const override { return broken_; }
  void set_broken() { broken_ = true; }  // REQUIRES: the engine thread, in a fault
  int64_t steps() const { return steps_; }
  int64_t max_in_flight() const { return max_in_flight_; }
  int64_t images_encoded() const { return images_encoded_; }
  int64_t max_rows_seen() const { return max_rows_seen_; }
  int64_t slots_copied() const { return slots_copied_; }

 private:
  struct StartedStep {
    StepOutput output;
    std::vector<std::pair<int64_t, uint64_t>> written;  // KV slots and their new hashes
  };

  std::vector<uint64_t> RunRow(const StepRow& row, StartedStep* step);
  void AddScores(uint64_t seen, std::vector<float>* scores) const;

  bool broken_ = false;
  RunnerLimits limits_;
  std::vector<uint64_t> kv_;      // one hash per arena slot: of all that this position has seen
  std::vector<uint64_t> images_;  // one hash per image cache slot
  std::vector<int32_t> tokens_;   // the token of each arena slot
  std::vector<float> pixels_;     // the image that is being encoded
  int32_t slot_ = -1;
  int32_t part_ = 0;
  uint64_t encoding_ = 0;  // hash of the image so far
  std::deque<StartedStep> in_flight_;
  std::function<Status(int64_t)> fault_;
  std::function<Status(int64_t)> late_fault_;
  std::function<Status(int32_t)> image_fault_;
  std::function<void(std::span<const StepRow>)> observer_;
  int64_t steps_ = 0;
  int64_t steps_finished_ = 0;
  int64_t max_in_flight_ = 0;
  int64_t images_encoded_ = 0;
  int64_t max_rows_seen_ = 0;
  int64_t slots_copied_ = 0;
};

}  // namespace idefics
