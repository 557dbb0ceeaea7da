// SPDX-License-Identifier: Apache-2.0
// Cross-attention to the latents of one image per token (docs/model.md#gated-cross-attention);
// entry -1 adds nothing.
#pragma once

#include "predictor/ops/cuda/attend_keys.cuh"

namespace idefics::IDEFICS_TARGET {

template <typename T>
struct AttendImageArguments {
  const T* q;           // [tokens, heads, dim]
  const T* image_k;     // [slots, heads, latents, dim]
  const T* image_v;     // [slots, heads, latents, dim]
  const int32_t* slot;  // [tokens]
  T* out;               // [tokens, heads, dim]
  int tokens;
  int heads;
  int latents;
  int dim;
  bool packed;
};

template <typename T, int kLanes>
__global__ void __launch_bounds__(kAttendThreads) AttendImageKernel(AttendImageArguments<T> a) {
  const int64_t at_head = static_cast<int64_t>(blockIdx.x) * a.heads + blockIdx.y;
  T* out = a.out + at_head * a.dim;
  const int64_t image = a.slot[blockIdx.x];
  if (image < 0) {
    for (int at = static_cast<int>(threadIdx.x); at < a.dim; at += kAttendThreads) {
      out[at] = static_cast<T>(0.0f);
    }
    return;
  }
  const int64_t origin = (image * a.heads + blockIdx.y) * a.latents * a.dim;
  const Keys<T> keys{
      {a.image_k + origin, a.dim}, {a.image_v + origin, a.dim}, KeySlots{0, 0, 0}, 0, a.latents};
  AttendBlock<kLanes>(a.q + at_head * a.dim, keys, a.dim, a.packed,
                      [&](int at, const Merged& m) { out[at] = static_cast<T>(m.sum / m.total); });
}

// REQUIRES: dim <= kMaxAttendDim.
template <typename T>
void LaunchAttendImage(const AttendImageArguments<T>& a, Stream stream) {
  if (a.tokens == 0) return;
  const dim3 grid{static_cast<unsigned>(a.tokens), static_cast<unsigned>(a.heads)};
  ForLanes(a.dim, [&](auto lanes) {
    Launch(AttendImageKernel<T, lanes.value>, grid, kAttendThreads, stream, a);
  });
}

}  // namespace idefics::IDEFICS_TARGET
