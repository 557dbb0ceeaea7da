// SPDX-License-Identifier: Apache-2.0
// A decoder of one layer, of the idefics:: operators under test, for tests of whole steps.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "predictor/model/step_indices.h"
#include "tests/model/operators.h"

namespace idefics::test {

class TinyDecoder {
 public:
  static constexpr int64_t kVocab = 100, kSlots = 1024;
  static constexpr int32_t kScratch = kSlots;  // one slot more than sequences use

  // Weights and full caches by a seed of its own: two are alike.
  TinyDecoder(const Operators& operators, at::Device device);

  // inputs: kStepArrays → logits [S, kVocab] f32.
  at::Tensor Forward(const std::vector<at::Tensor>& inputs) const;

  // Of all slots but the scratch slot: [kSlots, H, d].
  at::Tensor Keys() const { return k_cache_.narrow(0, 0, kSlots); }
  at::Tensor Values() const { return v_cache_.narrow(0, 0, kSlots); }

 private:
  const Operators ops_;
  at::Tensor embed_, norm_, qkv_, head_, head_scale_, image_k_, image_v_, k_cache_, v_cache_;
};

// kStepArrays of a step as it is.
std::vector<at::Tensor> EagerInputs(const StepIndices& step, at::Device device);

// A step for that decoder, with all that its rows point to.
class TinyStep {
 public:
  // Row r has counts[r] tokens behind `before` + r others, in the extent from 60 r on; those with
  // more than four want no logits but of the last, the others of all. REQUIRES: before + r +
  // counts[r] <= 60, and 17 rows at most.
  TinyStep(const std::vector<int>& counts, int before);

  StepIndices indices() const { return StepIndices(rows_); }

 private:
  std::vector<int32_t> tokens_, images_;
  std::vector<StepRow> rows_;
};

}  // namespace idefics::test
