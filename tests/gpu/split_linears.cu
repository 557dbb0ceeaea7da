// SPDX-License-Identifier: Apache-2.0
// What dividing k among blocks is worth for few rows, for predictor/ops/cuda/k_splits.h: by one
// shape of the 9b and those of its ranks that have few columns.
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "predictor/ops/cuda/linear_operators.cuh"
#include "tests/gpu/gpu_checks.h"

namespace idefics::test {
namespace {

constexpr int64_t kShapes[][2] = {{4096, 4096}, {4096, 11008}, {1536, 4096}, {1024, 8192}};

// Copies of a weight that no cache holds all of: [copies, tiles, steps, 64] words, whose bytes are
// numbers of every form.
at::Tensor Words(int64_t n, int64_t steps) {
  const int64_t bytes = n * steps * 4;
  const int64_t copies = std::clamp<int64_t>((int64_t{512} << 20) / bytes, 2, 64);
  return at::randint(0, 64, {copies, n / kTileColumns, steps, kTileColumns * 4},
                     at::TensorOptions(at::kCUDA).dtype(at::kByte));
}

template <typename Packed>
void TimeForm(const char* name, int64_t n, int64_t k, int64_t rows, const at::Tensor& scale) {
  const auto device = at::TensorOptions(at::kCUDA).dtype(at::kBFloat16);
  const at::Tensor words = Words(n, k / Packed::kValues);
  const at::Tensor x = at::randn({rows, k}, device);
  const at::Tensor out = at::empty({rows, n}, device);
  const at::Tensor parts = at::empty({kMaxKSplits, rows, n}, device.dtype(at::kFloat));
  std::printf("    %-5s M=%-3ld", name, static_cast<long>(rows));
  for (const int splits : {1, 2, 4, 8}) {
    const double us = Microseconds(static_cast<int>(words.size(0)), [&](int copy) {
      cuda::LaunchSkinny<Packed, c10::BFloat16>(
          {.of = {.x = x.const_data_ptr<c10::BFloat16>(),
                  .w = cuda::StoredWeight{words[copy], scale}.As<Packed>(k),
                  .out = out.data_ptr<c10::BFloat16>(),
                  .rows = static_cast<int>(rows),
                  .n = static_cast<int>(n),
                  .packed = false},
           .splits = splits,
           .parts = parts.data_ptr<float>()},
          c10::cuda::getCurrentCUDAStream());
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    });
    std::printf("  %d: %6.1f us", splits, us);
  }
  const cuda::PackedWords w = cuda::StoredWeight{words[0], scale}.As<Packed>(k);
  const int processors = at::cuda::getCurrentDeviceProperties()->multiProcessorCount;
  std::printf("  chosen %d\n", cuda::SkinnySplits<Packed>(w, static_cast<int>(n), processors));
}

}  // namespace

void TimeSplitLinears() {
  const auto device = at::TensorOptions(at::kCUDA);
  for (const auto& [n, k] : kShapes) {
    std::printf("k divided among blocks: [%ld, %ld]\n", static_cast<long>(n), static_cast<long>(k));
    const at::Tensor scale8 = at::rand({n}, device);
    const at::Tensor scale4 =
        at::rand({n / kTileColumns, k / kGroup, 2, kTileColumns}, device).to(at::kBFloat16);
    for (const int64_t rows : {1, 32}) {
      TimeForm<cuda::Packed16Bit<c10::BFloat16>>("bf16", n, k, rows, {});
      TimeForm<cuda::PackedInt8<c10::BFloat16>>("int8", n, k, rows, scale8);
      TimeForm<cuda::PackedInt4<c10::BFloat16>>("int4", n, k, rows, scale4);
    }
  }
}

}  // namespace idefics::test
