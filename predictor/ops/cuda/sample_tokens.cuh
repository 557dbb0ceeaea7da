// SPDX-License-Identifier: Apache-2.0
// Samples the next token of each row (predictor/sampling/device_sampling.h), one block for each
// row. The result depends neither on the other rows nor on the order of the threads.
#pragma once

#include "predictor/ops/cuda/logits_processors.cuh"

namespace idefics::IDEFICS_TARGET {

struct SampleTokensArguments {
  float* logits;                   // [rows, vocab]
  const int32_t* sampling_params;  // [rows, kDeviceSamplingWords]
  int32_t* history;                // [slots]
  int32_t* out;                    // [rows]
  int rows;
  int vocab;
  int64_t slots;
};

// The row's params, with kNone for the mode where its history is not inside [0, slots), or shorter
// than its parts.
__device__ __forceinline__ DeviceSamplingParams LoadParams(const SampleTokensArguments& a) {
  DeviceSamplingParams params;
  memcpy(static_cast<void*>(&params), a.sampling_params + blockIdx.x * kDeviceSamplingWords,
         sizeof(params));
  const int64_t own = int64_t{params.history_length} - params.shared_length;
  const bool inside = params.history_start >= 0 && params.history_length >= 0 && own >= 0 &&
                      params.history_start + own < a.slots;
  const bool shared_inside = params.shared_start >= 0 && params.shared_length >= 0 &&
                             int64_t{params.shared_start} + params.shared_length <= a.slots;
  const bool counts = params.new_tokens >= 0 && params.new_tokens <= params.history_length;
  if (!inside || !shared_inside || !counts) params.mode = SamplingMode::kNone;
  return params;
}

__device__ __forceinline__ bool AllFinite(const Row& row) {
  bool finite = true;
  ForEachScore(row, [&](int, float score) { finite = finite && fabsf(score) < INFINITY; });
  return Reduce(row, finite ? 0 : 1, [](FixedPoint a, FixedPoint b) { return a | b; }) == 0;
}

__device__ __forceinline__ int32_t SampleToken(const Row& row, const DeviceSamplingParams& params,
                                               const History& history) {
  if (params.mode == SamplingMode::kNone) return kNoToken;
  if (!AllFinite(row)) return kNotFinite;
  ApplyProcessors(row, params, history);
  if (params.mode == SamplingMode::kGreedy) return FindBest(row).token;
  ApplyWarpers(row, params);
  return Draw(row, params.uniform);
}

static __global__ void __launch_bounds__(kRowThreads) SampleTokensKernel(SampleTokensArguments a) {
  __shared__ RowMemory memory;
  const DeviceSamplingParams params = LoadParams(a);
  const Row row{a.logits + static_cast<int64_t>(blockIdx.x) * a.vocab, a.vocab, &memory};
  int32_t* own = a.history + params.history_start;
  const History history{a.history + params.shared_start, params.shared_length, own,
                        params.history_length};
  const int32_t token = SampleToken(row, params, history);
  if (threadIdx.x != 0) return;
  a.out[blockIdx.x] = token;
  if (token >= 0) own[params.history_length - params.shared_length] = token;
}

inline void LaunchSampleTokens(const SampleTokensArguments& a, Stream stream) {
  if (a.rows == 0) return;
  Launch(SampleTokensKernel, dim3{static_cast<unsigned>(a.rows)}, kRowThreads, stream, a);
}

}  // namespace idefics::IDEFICS_TARGET
