// SPDX-License-Identifier: Apache-2.0
// What predictor/sampling/logits_processors.cc does to a row of scores, done by one block. Weights
// are fixed-point numbers instead of floats, so a token whose cumulative probability is within
// rounding of a limit may fall on its other side.
#pragma once

#include "predictor/ops/cuda/radix_select.cuh"
#include "predictor/sampling/device_sampling.h"

namespace idefics::IDEFICS_TARGET {

// The tokens of a row's sequence, in two stretches.
struct History {
  const int32_t* shared;  // [shared_length]
  int shared_length;
  const int32_t* own;  // [length - shared_length]
  int length;
  __device__ __forceinline__ int32_t operator[](int i) const {
    return i < shared_length ? shared[i] : own[i - shared_length];
  }
};

__device__ __forceinline__ void Ban(const Row& row, int32_t token) {
  if (token >= 0 && token < row.vocab) row.scores[token] = -INFINITY;
}

// A token is penalized once, however often it occurs.
__device__ __forceinline__ void PenalizeRepetition(const Row& row, float penalty,
                                                   const History& history) {
  unsigned* seen = row.memory->seen;
  for (int i = static_cast<int>(threadIdx.x); i < kMaxDeviceVocab / 32; i += kRowThreads)
    seen[i] = 0;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < history.length; i += kRowThreads) {
    const int32_t token = history[i];
    if (token < 0 || token >= row.vocab) continue;
    const unsigned bit = 1u << (token % 32);
    if ((atomicOr(&seen[token / 32], bit) & bit) != 0) continue;
    const float score = row.scores[token];
    row.scores[token] = score < 0 ? score * penalty : score / penalty;
  }
  __syncthreads();
}

// Of new tokens only: the thread of a token's first place counts the others.
__device__ __forceinline__ void PenalizePresence(const Row& row, const DeviceSamplingParams& params,
                                                 const History& history) {
  const int begin = history.length - params.new_tokens;
  for (int i = begin + static_cast<int>(threadIdx.x); i < history.length; i += kRowThreads) {
    const int32_t token = history[i];
    if (token < 0 || token >= row.vocab) continue;
    int earlier = begin;
    while (history[earlier] != token) ++earlier;
    if (earlier < i) continue;
    int count = 1;
    for (int later = i + 1; later < history.length; ++later) count += history[later] == token;
    const double penalty = double{params.frequency_penalty} * count + params.presence_penalty;
    row.scores[token] = static_cast<float>(row.scores[token] - penalty);
  }
  __syncthreads();
}

// Bans each token that followed an earlier occurrence of the last n-1 tokens.
__device__ __forceinline__ void BanRepeatedNgrams(const Row& row, int n, const History& history) {
  const int tail = history.length - (n - 1);
  for (int i = static_cast<int>(threadIdx.x); i <= history.length - n; i += kRowThreads) {
    int same = 0;
    while (same < n - 1 && history[i + same] == history[tail + same]) ++same;
    if (same == n - 1) Ban(row, history[i + n - 1]);
  }
}

__device__ __forceinline__ void ApplyProcessors(const Row& row, const DeviceSamplingParams& params,
                                                const History& history) {
  if (params.repetition_penalty != 1) {
    PenalizeRepetition(row, params.repetition_penalty, history);
  }
  if (params.presence_penalty != 0 || params.frequency_penalty != 0) {
    PenalizePresence(row, params, history);
  }
  if (params.no_repeat_ngram_size > 0) {
    BanRepeatedNgrams(row, params.no_repeat_ngram_size, history);
  }
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < DeviceSamplingParams::kMaxBanned && thread < params.banned_count) {
    Ban(row, params.banned[thread]);
  }
  __syncthreads();
}

// exp(score - largest) in fixed point; 0 for NaN.
struct Weight {
  float largest;

  __device__ __forceinline__ FixedPoint operator()(float score) const {
    if (score == largest) return kOne;
    const float weight = expf(score - largest) * static_cast<float>(kOne);
    return weight > 0 ? static_cast<FixedPoint>(llrintf(weight)) : 0;
  }
};

// At most total - 1.
__device__ __forceinline__ FixedPoint ShareOf(double share, FixedPoint total) {
  const auto mass = static_cast<FixedPoint>(share * static_cast<double>(total));
  return mass < total ? mass : total - 1;
}

__device__ __forceinline__ void KeepTopK(const Row& row, int k) {
  if (k >= row.vocab) return;
  const auto descending = [](int, float score) { return ~Ascending(score); };
  const Boundary last = RadixSelect(
      row, 32, descending, [](int, float) { return FixedPoint{1}; },
      static_cast<FixedPoint>(k - 1));
  ForEachScore(row, [&](int i, float score) {
    if (~Ascending(score) > last.key) row.scores[i] = -INFINITY;
  });
}

// Removes the least likely tokens whose cumulative probability is at most 1 - top_p; of equal ones
// the last is removed first. The most likely token stays.
__device__ __forceinline__ void KeepTopP(const Row& row, double top_p) {
  const Weight weight{FindBest(row).score};
  const FixedPoint total = TotalOf(row, weight);
  const FixedPoint target = ShareOf(static_cast<float>(1.0 - top_p), total);  // < total: one stays
  const auto ascending = [](int, float score) { return Ascending(score); };
  const auto mass = [&](int, float score) { return weight(score); };
  const Boundary first = RadixSelect(row, 32, ascending, mass, target);
  const FixedPoint removed = (target - first.below) / weight(FromAscending(first.key));
  uint32_t from_end = 0;  // index of the first one removed, counted from the end
  if (removed > 0) {
    from_end = RadixSelect(
                   row, IndexBits(row), [&](int i, float) { return row.vocab - 1 - i; },
                   [&](int, float score) { return FixedPoint{Ascending(score) == first.key}; },
                   removed - 1)
                   .key;
  }
  ForEachScore(row, [&](int i, float score) {
    const uint32_t key = Ascending(score);
    const bool last_of_equals =
        key == first.key && removed > 0 && static_cast<uint32_t>(row.vocab - 1 - i) <= from_end;
    if (key < first.key || last_of_equals) row.scores[i] = -INFINITY;
  });
}

__device__ __forceinline__ void KeepMinP(const Row& row, float min_p) {
  const float largest = FindBest(row).score;
  ForEachScore(row, [&](int i, float score) {
    if (score != largest && expf(score - largest) < min_p) row.scores[i] = -INFINITY;
  });
}

// Locally typical sampling (arXiv 2202.00666).
__device__ __forceinline__ void KeepTypical(const Row& row, float typical_p) {
  const float largest = FindBest(row).score;
  const Weight weight{largest};
  const FixedPoint total = TotalOf(row, weight);
  const auto log_sum =
      static_cast<float>(log(static_cast<double>(total) / static_cast<double>(kOne)));
  const auto surprise = [&](float score) { return -(score - largest - log_sum); };
  const FixedPoint surprises = TotalOf(row, [&](float score) {
    const float part = expf(score - largest) * surprise(score) * static_cast<float>(kOne);
    return part > 0 ? static_cast<FixedPoint>(llrintf(part)) : FixedPoint{0};
  });
  const auto entropy =
      static_cast<float>(static_cast<double>(surprises) / static_cast<double>(total));
  // Not negative, so its bits have its order.
  const auto distance = [&](float score) { return BitsOf(fabsf(surprise(score) - entropy)); };
  // The smallest mass that is not below typical_p.
  const auto enough =
      static_cast<FixedPoint>(ceil(static_cast<double>(typical_p) * static_cast<double>(total)));
  const FixedPoint target = enough == 0 ? 0 : enough < total ? enough - 1 : total - 1;
  const Boundary last = RadixSelect(
      row, 32, [&](int, float score) { return distance(score); },
      [&](int, float score) { return weight(score); }, target);
  ForEachScore(row, [&](int i, float score) {
    if (distance(score) > last.key) row.scores[i] = -INFINITY;
  });
}

__device__ __forceinline__ void ApplyWarpers(const Row& row, const DeviceSamplingParams& params) {
  if (params.temperature != 1) {
    ForEachScore(row, [&](int i, float score) { row.scores[i] = score / params.temperature; });
  }
  if (params.top_k > 0) KeepTopK(row, params.top_k);
  if (params.top_p < 1) KeepTopP(row, params.top_p);
  if (params.min_p > 0) KeepMinP(row, params.min_p);
  if (params.typical_p < 1) KeepTypical(row, params.typical_p);
}

// Inverse of the cumulative distribution exp(scores) at `uniform` in [0, 1).
__device__ __forceinline__ int Draw(const Row& row, double uniform) {
  const Weight weight{FindBest(row).score};
  const FixedPoint target = ShareOf(uniform, TotalOf(row, weight));
  const Boundary drawn = RadixSelect(
      row, IndexBits(row), [](int i, float) { return i; },
      [&](int, float score) { return weight(score); }, target);
  return static_cast<int>(drawn.key);
}

}  // namespace idefics::IDEFICS_TARGET
