// SPDX-License-Identifier: Apache-2.0
// One query against a range of keys by one block, each key and value read once. Online softmax
// (arXiv 1805.02867) per group of lanes, then a merge of the groups' parts.
#pragma once

#include <type_traits>

#include "predictor/ops/cuda/lanes.cuh"

namespace idefics::IDEFICS_TARGET {

constexpr int kAttendThreads = 128;
constexpr int kMaxAttendDim = 256;  // 32 lanes of a pack each

// The slots of a row's keys, of which the first ones may be shared with other rows.
struct KeySlots {
  int shared;            // keys
  int64_t shared_first;  // slot of key 0
  int64_t own_base;      // slot of key `shared`, less `shared`

  __device__ __forceinline__ int64_t At(int key) const {
    return key + (key < shared ? shared_first : own_base);
  }
};

// One head's keys, or values. `Key`: the activations' type, or int8_t (../kv_cache.h).
template <typename Key>
struct HeadRows {
  const Key* first;               // row of slot 0
  int64_t stride;                 // elements from one slot to the next
  const float* scales = nullptr;  // in 8 bit: of slot 0; stride / 4 from one to the next

  __device__ __forceinline__ const Key* At(int64_t slot) const { return first + slot * stride; }
  __device__ __forceinline__ float ScaleAt(int64_t slot) const {
    if constexpr (std::is_same_v<Key, int8_t>) {
      return scales[slot * stride / static_cast<int64_t>(sizeof(float))];
    }
    return 1.0f;
  }
};

// Elements of a slot of a KV cache.
template <typename Key>
__device__ __forceinline__ int64_t SlotSize(int heads, int dim) {
  const int64_t scale = std::is_same_v<Key, int8_t> ? sizeof(float) : 0;
  return static_cast<int64_t>(heads) * (dim + scale);
}

template <typename Key>
__device__ __forceinline__ HeadRows<Key> RowsOfHead(const Key* cache, int head, int heads,
                                                    int dim) {
  HeadRows<Key> rows{cache + static_cast<int64_t>(head) * dim, SlotSize<Key>(heads, dim)};
  if constexpr (std::is_same_v<Key, int8_t>) {
    rows.scales = reinterpret_cast<const float*>(cache + static_cast<int64_t>(heads) * dim) + head;
  }
  return rows;
}

template <typename Key>
struct Keys {
  HeadRows<Key> k;
  HeadRows<Key> v;
  KeySlots slots;
  int begin;
  int end;
};

// Softmax over some keys: Σ exp(score − largest) in total, the same weights · values in sums.
// largest is −inf where there was no key.
struct AttendParts {
  const float* largest;  // [parts]
  const float* total;    // [parts]
  const float* sums;     // [parts, sums_stride]
  int parts;
  int sums_stride;
};

struct Merged {
  float largest;
  float total;
  float sum;
};

// Softmax over all parts, of element `at`.
__device__ __forceinline__ Merged Merge(const AttendParts& a, int at) {
  Merged merged{-INFINITY, 0.0f, 0.0f};
  for (int i = 0; i < a.parts; ++i) merged.largest = fmaxf(merged.largest, a.largest[i]);
  const float base = merged.largest == -INFINITY ? 0.0f : merged.largest;
  for (int i = 0; i < a.parts; ++i) {
    const float keep = expf(a.largest[i] - base);
    merged.total += a.total[i] * keep;
    merged.sum += a.sums[i * a.sums_stride + at] * keep;
  }
  return merged;
}

// The softmax state of a group of kLanes lanes. Every lane holds the same largest and total, and
// its own pack of the sums.
struct GroupState {
  float largest = -INFINITY;
  float total = 0.0f;
  float sums[kPack] = {};
};

// The groups of the block divide keys [begin, end) among them, four at a time each, so that loads
// of four keys and values are in flight together.
template <int kLanes, typename Key>
__device__ __forceinline__ void AttendGroup(const float (&query)[kPack], const Keys<Key>& keys,
                                            int dim, bool packed, GroupState& state) {
  constexpr int kUnroll = 4;
  constexpr int kGroups = kAttendThreads / kLanes;
  const int group = static_cast<int>(threadIdx.x) / kLanes;
  const int first = static_cast<int>(threadIdx.x) % kLanes * kPack;
  for (int base = keys.begin; base < keys.end; base += kUnroll * kGroups) {
    Pack<Key> k[kUnroll];
    Pack<Key> v[kUnroll];
    float k_scale[kUnroll];
    float v_scale[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int key = base + u * kGroups + group;
      const bool there = key < keys.end;
      const int64_t slot = keys.slots.At(key);
      k[u] = LoadPack(keys.k.At(slot), first, there ? dim : 0, packed);
      v[u] = LoadPack(keys.v.At(slot), first, there ? dim : 0, packed);
      k_scale[u] = there ? keys.k.ScaleAt(slot) : 0.0f;
      v_scale[u] = there ? keys.v.ScaleAt(slot) : 0.0f;
    }
    float scores[kUnroll];
    float largest = state.largest;
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      float dot = 0;
#pragma unroll
      for (int i = 0; i < kPack; ++i) dot += query[i] * static_cast<float>(k[u].at[i]);
      dot = GroupSum<kLanes>(dot) * k_scale[u];
      scores[u] = base + u * kGroups + group < keys.end ? dot : -INFINITY;
      largest = fmaxf(largest, scores[u]);
    }
    const float shift = largest == -INFINITY ? 0.0f : largest;
    const float keep = expf(state.largest - shift);
    state.largest = largest;
    state.total *= keep;
#pragma unroll
    for (int i = 0; i < kPack; ++i) state.sums[i] *= keep;
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const float weight = expf(scores[u] - shift);
      state.total += weight;
      const float scaled = weight * v_scale[u];
#pragma unroll
      for (int i = 0; i < kPack; ++i) state.sums[i] += scaled * static_cast<float>(v[u].at[i]);
    }
  }
}

// Attends with the whole block and calls store(element, Merged) once for each of the `dim`
// elements. kLanes · 8 >= dim. All threads of the block take part.
template <int kLanes, typename T, typename Key, typename Store>
__device__ __forceinline__ void AttendBlock(const T* query, const Keys<Key>& keys, int dim,
                                            bool packed, const Store& store) {
  constexpr int kGroups = kAttendThreads / kLanes;
  __shared__ float largest[kGroups];
  __shared__ float total[kGroups];
  __shared__ float sums[kAttendThreads * kPack];  // [group, lane, pack]
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kLanes;
  const float scale = 1.0f / sqrtf(static_cast<float>(dim));
  const Pack<T> raw = LoadPack(query, lane * kPack, dim, packed);
  float scaled[kPack];
#pragma unroll
  for (int i = 0; i < kPack; ++i) scaled[i] = static_cast<float>(raw.at[i]) * scale;
  GroupState state;
  AttendGroup<kLanes>(scaled, keys, dim, packed, state);
  if (lane == 0) {
    largest[thread / kLanes] = state.largest;
    total[thread / kLanes] = state.total;
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i) sums[thread * kPack + i] = state.sums[i];
  __syncthreads();
  const AttendParts parts{largest, total, sums, kGroups, kLanes * kPack};
  for (int at = thread; at < dim; at += kAttendThreads) store(at, Merge(parts, at));
}

// Calls run(kLanes as std::integral_constant) with enough lanes a key for `dim`.
template <typename Run>
void ForLanes(int dim, const Run& run) {
  if (dim <= 4 * kPack) {
    run(std::integral_constant<int, 4>{});
  } else if (dim <= 8 * kPack) {
    run(std::integral_constant<int, 8>{});
  } else if (dim <= 16 * kPack) {
    run(std::integral_constant<int, 16>{});
  } else {
    run(std::integral_constant<int, 32>{});
  }
}

}  // namespace idefics::IDEFICS_TARGET
