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

#include "predictor/model/image_pace.h"
#include "predictor/model/model_runner.h"

namespace idefics {

// Calls of ContinueImages that encode a batch, without simulated times.
constexpr int32_t kToyImageParts = 3;

// What the simulated clock of a runner goes on by.
struct ToyTimes {
  ImagePace::Duration step{};        // of any number of rows
  ImagePace::Duration image_unit{};  // of a batch of images
  size_t image_units = kToyImageParts;
};

class ToyRunner : public ModelRunner {
 public:
  explicit ToyRunner(RunnerLimits limits, const ToyTimes& times = {});

  const RunnerLimits& limits() const override { return limits_; }
  Status BeginImages(std::span<const ImageInput> images) override;
  Result<bool> ContinueImages(bool wait) override;
  Status StartStep(std::span<const StepRow> rows) override;
  Status FinishStep(StepOutput* output) override;
  Status CopyKv(std::span<const KvCopy> copies) override;

  // Called at the start of every step with its number; StartStep returns its failure.
  void set_fault(std::function<Status(int64_t step)> fault) { fault_ = std::move(fault); }
  // Called at the end of every step; FinishStep returns its failure, and what the step wrote to the
  // arena is spoilt.
  void set_late_fault(std::function<Status(int64_t step)> fault) { late_fault_ = std::move(fault); }
  // Called before every part of a batch of images with its first unit.
  void set_image_fault(std::function<Status(int32_t unit)> fault) {
    image_fault_ = std::move(fault);
  }
  // Called at the start of every step, and with no rows at every part of a batch of images, on the
  // calling thread.
  void set_observer(std::function<void(std::span<const StepRow> rows)> observer) {
    observer_ = std::move(observer);
  }
  bool broken() const override { return broken_; }
  void set_broken() { broken_ = true; }  // REQUIRES: the engine thread, in a fault
  int64_t steps() const { return steps_; }
  // On the simulated clock, since the start.
  ImagePace::Duration elapsed() const { return elapsed_; }
  int64_t image_batches() const { return image_batches_; }
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
  // The images that are being encoded.
  struct Encoding {
    int32_t slot;
    std::vector<float> pixels;
    uint64_t hash;  // so far
  };
  std::vector<Encoding> encodings_;
  size_t next_unit_ = 0;
  ImagePace pace_;
  const ToyTimes times_;
  ImagePace::Duration elapsed_{};
  std::deque<StartedStep> in_flight_;
  std::function<Status(int64_t)> fault_;
  std::function<Status(int64_t)> late_fault_;
  std::function<Status(int32_t)> image_fault_;
  std::function<void(std::span<const StepRow>)> observer_;
  int64_t steps_ = 0;
  int64_t steps_finished_ = 0;
  int64_t max_in_flight_ = 0;
  int64_t images_encoded_ = 0;
  int64_t image_batches_ = 0;
  int64_t max_rows_seen_ = 0;
  int64_t slots_copied_ = 0;
};

}  // namespace idefics
