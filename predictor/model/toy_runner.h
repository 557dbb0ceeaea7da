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
  Status EncodeImages(std::span<const float> pixels, std::span<const int32_t> entries) override;
  Status Step(std::span<const StepRow> rows, std::span<float> logits) override;
  Status CopyKv(std::span<const KvCopy> copies) override;

  // Called at the start of every Step with its number; a failure is returned from Step (fault
  // tests).
  void set_fault(std::function<Status(int64_t step)> fault) { fault_ = std::move(fault); }
  int64_t steps() const { return steps_; }
  int64_t images_encoded() const { return images_encoded_; }
  int64_t max_rows_seen() const { return max_rows_seen_; }

 private:
  RunnerLimits limits_;
  std::vector<uint64_t> kv_;      // one hash per arena slot: all that this position has seen
  std::vector<uint64_t> images_;  // one hash per table row
  std::function<Status(int64_t)> fault_;
  int64_t steps_ = 0;
  int64_t images_encoded_ = 0;
  int64_t max_rows_seen_ = 0;
};

}  // namespace idefics
