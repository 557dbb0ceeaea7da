// SPDX-License-Identifier: Apache-2.0
// Random inputs of the idefics:: operators: one ragged step (predictor/ops/README.md). Used by the
// host tests and by the device test. Made on the CPU from a seed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace idefics::test {

struct StepShape {
  std::string name;
  std::vector<int64_t> counts;   // tokens of each row in this step
  std::vector<int64_t> befores;  // keys of each row before it
  int64_t heads = 2;
  int64_t dim = 16;
  int64_t latents = 64;
  std::vector<int64_t> shared = {};  // of each row's keys before it: those that all rows share
};

struct RaggedStep {
  at::Tensor qkv;                                // [T, 3·H·d]
  at::Tensor q;                                  // [T, H, d]
  at::Tensor cos, sin;                           // [T, d/2] f32
  at::Tensor k_cache, v_cache;                   // [slots, H, d] or in 8 bit; full of numbers
  at::Tensor kv_slots;                           // [T] i32
  at::Tensor row_starts, kv_starts, kv_lengths;  // [R + 1], [R, 2], [R, 2] i32
  at::Tensor image_k, image_v;                   // [3, H, latents, d]
  at::Tensor image_slots;                        // [T] i32, -1 … 2

  RaggedStep To(at::Device device) const;
  // The same step with the caches in 8 bit (predictor/ops/kv_cache.h).
  RaggedStep InInt8() const;
  // The caches' numbers, [slots, H, d].
  at::Tensor Keys() const;
  at::Tensor Values() const;
};

// Rows are in the arena in reverse order, with gaps between them.
RaggedStep MakeStep(const StepShape& shape, at::ScalarType type, uint64_t seed);

// Standard normal numbers.
at::Tensor Random(at::IntArrayRef sizes, at::ScalarType type, uint64_t seed);

// Decode rows, prompt pieces and mixes, over several lengths, heads and head widths.
std::vector<StepShape> StepShapes();

struct Difference {
  double largest = 0;  // |a − b| / (tolerance of b); above 1 is a failure
  std::string text;    // for a message
};

// Compares on the CPU. The tolerance of b: f32 1e-5·(1 + |b|); bf16 and f16 two units in the last
// place of b, or of 1/16 where b is smaller.
Difference Compare(const at::Tensor& a, const at::Tensor& b);

}  // namespace idefics::test
