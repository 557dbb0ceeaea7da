// SPDX-License-Identifier: Apache-2.0
// Cross-attention of many tokens in 16 bit by tensor cores: one warp per (tile of 16 tokens, head),
// which walks over the latents of one image after the other, of those that its tokens see. A
// prompt's neighbours see the same image, so that its latents are read once for all of them.
#pragma once

#include "predictor/ops/cuda/attend_image.cuh"
#include "predictor/ops/cuda/tensor_steps.cuh"

namespace idefics::IDEFICS_TARGET {

// From this many tokens on. A step of fewer that decodes, where each token may see another image,
// has more blocks in attend_image.cuh.
constexpr int kImageTensorTokens = 129;
constexpr int kImageTensorThreads = 32;

template <typename T, int kPanels>
__global__ void __launch_bounds__(kImageTensorThreads)
    AttendImageTensorKernel(AttendImageArguments<T> a) {
  __shared__ TensorMemory<T, T, kPanels> memory;
  const int first = static_cast<int>(blockIdx.x) * kTensorQueries;
  const int count = a.tokens - first < kTensorQueries ? a.tokens - first : kTensorQueries;
  const int64_t width = static_cast<int64_t>(a.heads) * a.dim;
  const int64_t origin = first * width + static_cast<int64_t>(blockIdx.y) * a.dim;
  const RowShape shape{a.dim, a.packed};
  const auto itself = [](int at) { return at; };
  FillTile<kImageTensorThreads>(memory.keys, HeadRows<T>{a.q + origin, width}, itself, count,
                                shape);
  CommitAsyncCopies();
  WaitForAsyncCopies<0>();
  __syncthreads();
  const TensorQueries<T, kPanels> queries(memory.keys);
  __syncthreads();  // the queries have been read

  TensorState<kPanels> state;
  const int query = static_cast<int>(threadIdx.x) / 4;
  for (int begin = 0, end = 0; begin < count; begin = end) {
    const int32_t image = a.slot[first + begin];
    for (end = begin + 1; end < count && a.slot[first + end] == image;) ++end;
    if (image < 0) continue;
    const int64_t latents = (static_cast<int64_t>(image) * a.heads + blockIdx.y) * a.latents;
    const TileKeys<T, decltype(itself)> keys{{a.image_k + latents * a.dim, a.dim},
                                             {a.image_v + latents * a.dim, a.dim},
                                             itself,
                                             a.latents,
                                             shape};
    const auto seen_of = [&](int base) {
      const auto limit = [&](int of) { return begin <= of && of < end ? a.latents - base : 0; };
      return SeenKeys{{limit(query), limit(query + 8)}};
    };
    WalkKeys<kImageTensorThreads>(memory, queries, keys, true, seen_of, state);
  }
  StoreTensorTile(state, a.out + origin, width, count, a.dim);
}

// REQUIRES: dim <= kMaxTileDim.
template <typename T>
void LaunchAttendImageTensor(const AttendImageArguments<T>& a, Stream stream) {
  const dim3 grid{static_cast<unsigned>((a.tokens + kTensorQueries - 1) / kTensorQueries),
                  static_cast<unsigned>(a.heads)};
  ForPanels(a.dim, [&](auto panels) {
    Launch(AttendImageTensorKernel<T, panels.value>, grid, kImageTensorThreads, stream, a);
  });
}

}  // namespace idefics::IDEFICS_TARGET
