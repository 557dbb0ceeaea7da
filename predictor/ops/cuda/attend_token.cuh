// SPDX-License-Identifier: Apache-2.0
// Attention of short rows: one block per (token, head), or several that split the keys where there
// are too few blocks to fill the device (flash-decoding), and a second kernel that merges them.
#pragma once

#include <type_traits>

#include "predictor/ops/cuda/attend_keys.cuh"
#include "predictor/ops/cuda/ragged.cuh"

namespace idefics::IDEFICS_TARGET {

constexpr int kMaxSplits = 8;
constexpr int kSplitKeys = 128;  // a split below this many keys is not worth its block

// `Key`: T, or int8_t.
template <typename T, typename Key>
struct AttendArguments {
  const T* q;          // [tokens, heads, dim]
  const Key* k_cache;  // as ../kv_cache.h says
  const Key* v_cache;
  T* out;  // [tokens, heads, dim]
  Ragged ragged;
  int heads;
  int dim;
  bool packed;
  bool only_short_rows;  // the tile kernel takes the others
  int splits;
  float* parts;  // splits > 1, per (place, head): sums [splits, dim], largest, total [splits]

  // Blocks for each head and split: one for each token, or, where the tile kernel takes the long
  // rows, as many for each row as a short one may have.
  int places() const { return only_short_rows ? ragged.rows * kShortRow : ragged.tokens; }
};

struct TokenPlace {
  RowSpan row;
  int token;  // -1: none
};

__device__ __forceinline__ TokenPlace PlaceOf(const Ragged& ragged, bool only_short_rows,
                                              int place) {
  if (!only_short_rows) return {SpanOf(ragged, RowOfToken(ragged, place)), place};
  const RowSpan row = SpanOf(ragged, place / kShortRow);
  const int at = place % kShortRow;
  return {row, row.count <= kShortRow && at < row.count ? row.first + at : -1};
}

template <typename T, typename Key, int kLanes>
__global__ void __launch_bounds__(kAttendThreads) AttendTokenKernel(AttendArguments<T, Key> a) {
  const auto [row, token] = PlaceOf(a.ragged, a.only_short_rows, static_cast<int>(blockIdx.x));
  if (token < 0) return;
  const int head = static_cast<int>(blockIdx.y);
  const int split = static_cast<int>(blockIdx.z);
  const int visible = row.before + token - row.first + 1;
  int split_keys = (visible + a.splits - 1) / a.splits;
  split_keys = split_keys < kSplitKeys ? kSplitKeys : split_keys;
  const int end = (split + 1) * split_keys;
  const Keys<Key> keys{RowsOfHead(a.k_cache, head, a.heads, a.dim),
                       RowsOfHead(a.v_cache, head, a.heads, a.dim), row.slots, split * split_keys,
                       end < visible ? end : visible};
  const int64_t at_head = static_cast<int64_t>(token) * a.heads + head;
  const int64_t part = static_cast<int64_t>(blockIdx.x) * a.heads + head;
  AttendBlock<kLanes>(a.q + at_head * a.dim, keys, a.dim, a.packed, [&](int at, const Merged& m) {
    if (a.splits == 1) {
      a.out[at_head * a.dim + at] = static_cast<T>(m.sum / m.total);
      return;
    }
    float* parts = a.parts + part * (a.dim + 2) * a.splits + split * a.dim;
    parts[at] = m.sum;
    if (at == 0) {
      float* ends = a.parts + part * (a.dim + 2) * a.splits + a.splits * a.dim;
      ends[split] = m.largest;
      ends[a.splits + split] = m.total;
    }
  });
}

template <typename T, typename Key>
__global__ void __launch_bounds__(kAttendThreads) MergeSplitsKernel(AttendArguments<T, Key> a) {
  const int token = PlaceOf(a.ragged, a.only_short_rows, static_cast<int>(blockIdx.x)).token;
  if (token < 0) return;
  const int64_t at_head = static_cast<int64_t>(token) * a.heads + blockIdx.y;
  const int64_t part = static_cast<int64_t>(blockIdx.x) * a.heads + blockIdx.y;
  const float* sums = a.parts + part * (a.dim + 2) * a.splits;
  const float* largest = sums + a.splits * a.dim;
  const AttendParts parts{largest, largest + a.splits, sums, a.splits, a.dim};
  for (int at = static_cast<int>(threadIdx.x); at < a.dim; at += kAttendThreads) {
    const Merged m = Merge(parts, at);
    a.out[at_head * a.dim + at] = static_cast<T>(m.sum / m.total);
  }
}

// How many blocks may share the keys of a (place, head). The host does not know how many keys there
// are, nor may it in a graph: a block that finds none left for it ends at once, which costs less
// than one block that reads two thousand of them while others have ended. So up to kBlocksToStart
// of them are started for each processor.
inline int ChooseSplits(int places, int heads, int processors) {
  constexpr int64_t kBlocksToStart = 16;
  const int64_t blocks = static_cast<int64_t>(places) * heads;
  const int64_t splits = kBlocksToStart * processors / (blocks > 0 ? blocks : 1);
  return static_cast<int>(splits < 1 ? 1 : splits > kMaxSplits ? kMaxSplits : splits);
}

// REQUIRES: dim <= kMaxAttendDim; parts where splits > 1.
template <typename T, typename Key>
void LaunchAttendToken(const AttendArguments<T, Key>& a, Stream stream) {
  if (a.ragged.tokens == 0) return;
  const dim3 grid{static_cast<unsigned>(a.places()), static_cast<unsigned>(a.heads),
                  static_cast<unsigned>(a.splits)};
  ForLanes(a.dim, [&](auto lanes) {
    Launch(AttendTokenKernel<T, Key, lanes.value>, grid, kAttendThreads, stream, a);
  });
  if (a.splits > 1) {
    Launch(MergeSplitsKernel<T, Key>, dim3{grid.x, grid.y}, kAttendThreads, stream, a);
  }
}

}  // namespace idefics::IDEFICS_TARGET
