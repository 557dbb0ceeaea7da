// SPDX-License-Identifier: Apache-2.0
// The attention of the CUDA kernels to the bit, where arithmetic leaves no choice: which query
// meets which key and value.
#include <ATen/ATen.h>

#include <catch2/catch_test_macros.hpp>
#include <string>
#include <vector>

#include "predictor/ops/cuda/tensor_operands.cuh"
#include "tests/model/operators.h"
#include "tests/model/ragged_step.h"

namespace idefics::test {
namespace {

constexpr uint64_t kSeed = 20261127;

// Row r of `sizes[0]` is the number r in signs, repeated: rows differ in some numbers.
at::Tensor Signs(at::IntArrayRef sizes) {
  const at::Tensor number = at::arange(sizes[0]).view({-1, 1, 1});
  const at::Tensor bit = at::arange(sizes[2]).remainder(10).view({1, 1, -1});
  return number.bitwise_right_shift(bit).bitwise_and(1).mul(2).sub(1).expand(sizes).contiguous();
}

// Of row r of a step, the slot of its key `key`.
int64_t SlotOf(const RaggedStep& step, int64_t r, int64_t key) {
  const bool shared = key < step.kv_lengths[r][0].item<int32_t>();
  return step.kv_starts[r][shared ? 0 : 1].item<int32_t>() + key -
         (shared ? 0 : step.kv_lengths[r][0].item<int32_t>());
}

// For each token one of the slots that it sees.
std::vector<int64_t> ChooseSlots(const RaggedStep& step) {
  std::vector<int64_t> slots;
  for (int64_t r = 0; r < step.kv_starts.size(0); ++r) {
    const int64_t count =
        step.row_starts[r + 1].item<int32_t>() - step.row_starts[r].item<int32_t>();
    const int64_t before = step.kv_lengths[r][1].item<int32_t>() - count;
    for (int64_t t = 0; t < count; ++t) {
      const int64_t visible = before + t + 1;
      slots.push_back(SlotOf(step, r, t % 3 == 0 ? visible - 1 : t * 37 % visible));
    }
  }
  return slots;
}

TEST_CASE("a query that matches one key takes its value, to the bit", "[cuda_attend]") {
  for (const StepShape& shape : StepShapes()) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      INFO(shape.name << ", " << at::toString(type));
      RaggedStep step = MakeStep(shape, type, kSeed);
      const at::Tensor keys = Signs(step.k_cache.sizes()).to(type);
      const at::Tensor chosen = at::tensor(ChooseSlots(step), at::kLong);
      step.k_cache = keys;
      step.q = keys.index_select(0, chosen) * 512;  // all other weights vanish
      const at::Tensor mine = HostCudaOperators().attend(
          step.q, step.k_cache, step.v_cache, step.row_starts, step.kv_starts, step.kv_lengths);
      CHECK(at::equal(mine, step.v_cache.index_select(0, chosen).flatten(1)));
    }
  }
}

TEST_CASE("a token that matches one latent of its image takes its value, to the bit",
          "[cuda_attend]") {
  for (const int64_t latents : {7, 64, 100}) {
    const StepShape shape{"", {150, 1, 67}, {0, 9, 3}, 2, 64, latents};
    for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
      INFO(latents << " latents, " << at::toString(type));
      RaggedStep step = MakeStep(shape, type, kSeed);
      // [slots, heads, latents, dim]: each latent's number in signs.
      const at::Tensor keys = Signs({latents, 1, 64}).to(type);
      step.image_k = keys.view({1, 1, latents, 64}).expand_as(step.image_k).contiguous();
      const at::Tensor chosen = at::arange(step.q.size(0)).mul(11).remainder(latents);
      step.q = (keys.index_select(0, chosen) * 512).expand_as(step.q).contiguous();
      const at::Tensor mine =
          HostCudaOperators().attend_image(step.q, step.image_k, step.image_v, step.image_slots);
      const at::Tensor images = step.image_slots.to(at::kLong);
      const at::Tensor values = step.image_v.permute({0, 2, 1, 3})
                                    .index({images.clamp_min(0), chosen})
                                    .masked_fill(images.lt(0).view({-1, 1, 1}), 0);
      CHECK(at::equal(mine, values.flatten(1)));
    }
  }
}

// PTX ISA, "Warp-level matrix load instruction: ldmatrix".
TEST_CASE("four matrices are loaded as PTX says", "[cuda_attend]") {
  alignas(16) uint16_t numbers[4][8][8];  // matrix, row, column
  for (unsigned i = 0; i < 256; ++i) {
    numbers[i / 64][i / 8 % 8][i % 8] = static_cast<uint16_t>(i);
  }
  std::vector<unsigned> wrong(32);
  host_cuda::RunBlocks({}, 32, [&] {
    const unsigned lane = host_cuda::threadIdx.x;
    const void* const row = numbers[lane / 8][lane % 8];
    const auto straight = host_cuda::LoadMatrices<false>(row);
    const auto turned = host_cuda::LoadMatrices<true>(row);
    const unsigned g = lane / 4;
    for (unsigned m = 0; m < 4; ++m) {
      for (unsigned i = 0; i < 2; ++i) {
        const unsigned along = lane % 4 * 2 + i;
        wrong[lane] += (straight.pairs[m] >> 16 * i & 0xffff) != numbers[m][g][along];
        wrong[lane] += (turned.pairs[m] >> 16 * i & 0xffff) != numbers[m][along][g];
      }
    }
  });
  CHECK(wrong == std::vector<unsigned>(32));
}

}  // namespace
}  // namespace idefics::test
