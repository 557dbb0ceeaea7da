// SPDX-License-Identifier: Apache-2.0
// Fills in the tokens of a step that the device sampled in the step before.
#pragma once

#include <cstdint>

#include "predictor/ops/cuda/host_device.h"

namespace idefics::IDEFICS_TARGET {

struct GatherLastTokensArguments {
  const int32_t* tokens;    // [count]; negative: take the one in history
  const int32_t* kv_slots;  // [count]
  int32_t* history;         // [slots]
  int32_t* out;             // [count]
  int count;
};

constexpr int kGatherThreads = 256;

static __global__ void __launch_bounds__(kGatherThreads)
    GatherLastTokensKernel(GatherLastTokensArguments a) {
  const int t = static_cast<int>(blockIdx.x * kGatherThreads + threadIdx.x);
  if (t >= a.count) return;
  int32_t& held = a.history[a.kv_slots[t]];
  const int32_t token = a.tokens[t];
  if (token >= 0) held = token;
  a.out[t] = token >= 0 ? token : held;
}

inline void LaunchGatherLastTokens(const GatherLastTokensArguments& a, Stream stream) {
  if (a.count == 0) return;
  const int blocks = (a.count + kGatherThreads - 1) / kGatherThreads;
  Launch(GatherLastTokensKernel, dim3{static_cast<unsigned>(blocks)}, kGatherThreads, stream, a);
}

}  // namespace idefics::IDEFICS_TARGET
