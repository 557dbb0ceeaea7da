// SPDX-License-Identifier: Apache-2.0
// The tokens of a step, of which the host may not know some yet.
#pragma once

#include <cstdint>

#include "predictor/ops/cuda/host_device.h"

namespace idefics::IDEFICS_TARGET {

struct TakeTokensArguments {
  const int32_t* tokens;    // [count]; negative: the one that history holds
  const int32_t* kv_slots;  // [count]
  int32_t* history;         // [slots]
  int32_t* out;             // [count]
  int count;
};

constexpr int kTakeThreads = 256;

static __global__ void __launch_bounds__(kTakeThreads) TakeTokensKernel(TakeTokensArguments a) {
  const int t = static_cast<int>(blockIdx.x * kTakeThreads + threadIdx.x);
  if (t >= a.count) return;
  int32_t& held = a.history[a.kv_slots[t]];
  const int32_t token = a.tokens[t];
  if (token >= 0) held = token;
  a.out[t] = token >= 0 ? token : held;
}

inline void LaunchTakeTokens(const TakeTokensArguments& a, Stream stream) {
  if (a.count == 0) return;
  const int blocks = (a.count + kTakeThreads - 1) / kTakeThreads;
  Launch(TakeTokensKernel, dim3{static_cast<unsigned>(blocks)}, kTakeThreads, stream, a);
}

}  // namespace idefics::IDEFICS_TARGET
