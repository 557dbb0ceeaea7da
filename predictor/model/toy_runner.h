// SPDX-License-Identifier: Apache-2.0
// ToyRunner: a model without weights whose logits are an exact, computable function of everything
// that a sequence has seen (its tokens, its images, its order). If the engine mixes rows up, reads
// a neighbour's KV or forgets an image, the tokens change. For tests of the engine and the server.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "predictor/model/model_runner.h"

namespace idefics {

class ToyRunner : public ModelRunner {
 public:
  explicit ToyRunner(RunnerLimits limits);

  const RunnerLimits& limits() const override { return limits_; }
  Status EncodeImagePart(std::span<const float> pixels, int32_t entry, int32_t part) override;
  Status Step(std::span<const StepRow> rows, std::span<float> logits) override;
  Status CopyKv(std::span<const KvCopy> copies) override;

  // Called at the start of every Step with its number; a failure is returned from Step (fault
  // tests).
  void set_fault(std::function<Status(int64_t step)> fault) { fault_ = std::move(fault); }
  // Called before every part of a picture.
  void set_image_fault(std::function<Status(int32_t part)> fault) {
    image_fault_ = std::move(fault);
  }
  // Told of every Step and of every part of a picture (then with no rows), on the calling thread.
  void set_observer(std::function<void(std::span<const StepRow> rows)> observer) {
    observer_ = std::move(observer);
  }
  bool broken() const override { return broken_; }
  void set_broken() { broken_ = true; }  // REQUIRES: the engine thread, in a fault
  int64_t steps() const { return steps_; }
  int64_t images_encoded() const { return images_encoded_; }
  int64_t max_rows_seen() const { return max_rows_seen_; }

 private:
  bool broken_ = false;
  RunnerLimits limits_;
  std::vector<uint64_t> kv_;      // one hash per arena slot: all that this position has seen
  std::vector<uint64_t> images_;  // one hash per table row
  uint64_t encoding_ = 0;         // hash of the picture so far
  std::function<Status(int64_t)> fault_;
  std::function<Status(int32_t)> image_fault_;
  std::function<void(std::span<const StepRow>)> observer_;
  int64_t steps_ = 0;
  int64_t images_encoded_ = 0;
  int64_t max_rows_seen_ = 0;
};

}  // namespace idefics
