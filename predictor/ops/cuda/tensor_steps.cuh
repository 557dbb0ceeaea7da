// SPDX-License-Identifier: Apache-2.0
// The steps of attention in 16 bit by tensor cores, by tiles of 64 keys (attend_tensor.cuh,
// attend_image_tensor.cuh). A warp owns 16 queries: their scores, their weights and their output
// stay in its registers (FlashAttention-2, arXiv 2307.08691). Products of queries and keys are
// exact, sums are f32. A weight goes into its product as two numbers of 16 bit, so that it keeps as
// many bits as f32 would give to the result.
#pragma once

#include "predictor/ops/cuda/tensor_tiles.cuh"

namespace idefics::IDEFICS_TARGET {

// Of 16 queries and 64 keys: column c of sums t is key 8t + c.
struct TensorScores {
  TileSums at[kTensorTile / 8] = {};
};

template <typename T, int kPanels>
__device__ __forceinline__ void ScoreTile(const TensorTile<T, kPanels>& keys,
                                          const TensorQueries<T, kPanels>& queries,
                                          TensorScores& scores) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int step = 0; step < kPanels * 2; ++step) {
#pragma unroll
    for (int pair = 0; pair < kTensorTile / 16; ++pair) {
      const int row = pair * 16 + lane % 8 + lane / 16 * 8;
      const FourMatrices m = LoadMatrices<false>(&keys.rows[row][step * 2 + lane / 8 % 2]);
      MultiplyAdd<T>(scores.at[pair * 2], queries.steps[step], m.First());
      MultiplyAdd<T>(scores.at[pair * 2 + 1], queries.steps[step], m.Second());
    }
  }
}

// The running softmax of the lane's two queries, g and g + 8 of the warp's, with scores in units of
// log 2. Column c of sums t is number 8t + c of the output.
template <int kPanels>
struct TensorState {
  float largest[2] = {-INFINITY, -INFINITY};
  float total[2] = {0.0f, 0.0f};  // over this lane's keys only
  TileSums sums[kPanels * 4] = {};
};

// Which keys of a tile the lane's two queries see: those before `limit`.
struct SeenKeys {
  int limit[2];
};

// The key of a tile whose score lies in `at` of sums t.
__device__ __forceinline__ int KeyOf(int t, int at) {
  return t * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + at % 2;
}

// Turns scores into weights and rescales the state. `scale` has the scores' unit in it; key_scales:
// of keys in 8 bit, or null.
template <int kPanels>
__device__ __forceinline__ void WeighTile(TensorScores& scores, const SeenKeys& seen, float scale,
                                          const float* key_scales, TensorState<kPanels>& state) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = state.largest[half];
#pragma unroll
    for (int t = 0; t < kTensorTile / 8; ++t) {
#pragma unroll
      for (int at = half * 2; at < half * 2 + 2; ++at) {
        const int key = KeyOf(t, at);
        float& score = scores.at[t].at[at];
        score *= key_scales == nullptr ? scale : scale * key_scales[key];
        if (key >= seen.limit[half]) score = -INFINITY;
        largest = fmaxf(largest, score);
      }
    }
    largest = GroupMax<4>(largest);
    const float shift = largest == -INFINITY ? 0.0f : largest;
    const float keep = exp2f(state.largest[half] - shift);
    state.largest[half] = largest;
    state.total[half] *= keep;
#pragma unroll
    for (int t = 0; t < kTensorTile / 8; ++t) {
#pragma unroll
      for (int at = half * 2; at < half * 2 + 2; ++at) {
        float& weight = scores.at[t].at[at];
        weight = exp2f(weight - shift);
        state.total[half] += weight;
      }
    }
#pragma unroll
    for (TileSums& sums : state.sums) {
      sums.at[half * 2] *= keep;
      sums.at[half * 2 + 1] *= keep;
    }
  }
}

// Adds weights · values of the tile to the state. value_scales: of values in 8 bit, or null.
template <typename Value, int kPanels>
__device__ __forceinline__ void MixTile(const TensorTile<Value, kPanels>& values,
                                        const TensorScores& weights, const float* value_scales,
                                        TensorState<kPanels>& state) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int step = 0; step < kTensorTile / 16; ++step) {
    OperandA pair;
    OperandA rest;
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // rows g and g + 8 of keys 0 … 7, then of keys 8 … 15
      const int t = step * 2 + i / 2;
      const int at = i % 2 * 2;
      float low = weights.at[t].at[at];
      float high = weights.at[t].at[at + 1];
      if (value_scales != nullptr) {
        low *= value_scales[KeyOf(t, at)];
        high *= value_scales[KeyOf(t, at + 1)];
      }
      SplitPair<Value>(low, high, pair.pairs[i], rest.pairs[i]);
    }
#pragma unroll
    for (int two = 0; two < kPanels * 2; ++two) {
      const Pack<Value>* const row = values.rows[step * 16 + lane % 16];
      const FourMatrices m = LoadMatrices<true>(row + two * 2 + lane / 16);
      MultiplyAdd<Value>(state.sums[two * 2], pair, m.First());
      MultiplyAdd<Value>(state.sums[two * 2 + 1], pair, m.Second());
      MultiplyAdd<Value>(state.sums[two * 2], rest, m.First());
      MultiplyAdd<Value>(state.sums[two * 2 + 1], rest, m.Second());
    }
  }
}

// Attends the warp's queries to all keys, with the whole block of kThreads. The next keys are on
// their way while weights and values are multiplied, and values while queries and keys are.
// seen_of(base): which of the keys
// from `base` on the lane's two queries see. active: whether the warp has queries.
template <int kThreads, typename T, typename Key, int kPanels, typename SlotOf, typename SeenOf>
__device__ __forceinline__ void WalkKeys(TensorMemory<T, Key, kPanels>& memory,
                                         const TensorQueries<T, kPanels>& queries,
                                         const TileKeys<Key, SlotOf>& keys, bool active,
                                         const SeenOf& seen_of, TensorState<kPanels>& state) {
  constexpr bool kCoded = TensorMemory<T, Key, kPanels>::kCoded;
  constexpr float kLog2E = 1.4426950408889634f;
  const float scale = kLog2E / sqrtf(static_cast<float>(keys.shape.dim));
  const auto fetch = [&](auto& tile, float* scales, const HeadRows<Key>& from, int base) {
    const auto slot_of = [&](int at) { return keys.slot_of(base + at); };
    FillTile<kThreads>(tile, from, slot_of, keys.count - base, keys.shape);
    FillScales(scales, from, slot_of, keys.count - base);
    CommitAsyncCopies();
  };
  fetch(memory.keys, memory.key_scales, keys.k, 0);
  for (int base = 0; base < keys.count; base += kTensorTile) {
    fetch(memory.values, memory.value_scales, keys.v, base);
    WaitForAsyncCopies<1>();
    __syncthreads();  // the keys are there
    TensorScores scores;
    if (active) {
      ScoreTile(memory.keys, queries, scores);
      WeighTile(scores, seen_of(base), scale, kCoded ? memory.key_scales : nullptr, state);
    }
    __syncthreads();  // the keys have been read
    if (base + kTensorTile < keys.count) {
      fetch(memory.keys, memory.key_scales, keys.k, base + kTensorTile);
    } else {
      CommitAsyncCopies();
    }
    WaitForAsyncCopies<1>();
    __syncthreads();  // the values are there
    if (active) MixTile(memory.values, scores, kCoded ? memory.value_scales : nullptr, state);
    __syncthreads();  // the values have been read
  }
}

// Writes the lane's numbers of those of its queries that lie below `count`, counted from the
// warp's first, to the rows at `out`; zeros for one that has seen no key. All lanes of the warp
// take part.
template <typename T, int kPanels>
__device__ __forceinline__ void StoreTensorTile(const TensorState<kPanels>& state, T* out,
                                                int64_t stride, int count, int dim) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = GroupSum<4>(state.total[half]);
    const int query = lane / 4 + half * 8;
    if (query >= count) continue;
    const float share = total == 0.0f ? 0.0f : 1.0f / total;
#pragma unroll
    for (int t = 0; t < kPanels * 4; ++t) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int at = t * 8 + lane % 4 * 2 + i;
        if (at < dim) {
          out[query * stride + at] = static_cast<T>(state.sums[t].at[half * 2 + i] * share);
        }
      }
    }
  }
}

}  // namespace idefics::IDEFICS_TARGET
