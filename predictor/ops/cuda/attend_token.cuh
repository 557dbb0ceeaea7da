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
  float* parts;  // splits > 1, per (token, head): sums [splits, dim], largest, total [splits]
};

template <typename T, typename Key, int kLanes>
__global__ void __launch_bounds__(kAttendThreads) AttendTokenKernel(AttendArguments<T, Key> a) {
  const int token = static_cast<int>(blockIdx.x);
  const int head = static_cast<int>(blockIdx.y);
  const int split = static_cast<int>(blockIdx.z);
  const RowSpan row = SpanOf(a.ragged, RowOfToken(a.ragged, token));
  if (a.only_short_rows && row.count > kShortRow) return;
  const int visible = row.before + token - row.first + 1;
  int split_keys = (visible + a.splits - 1) / a.splits;
  split_keys = split_keys < kSplitKeys ? kSplitKeys : split_keys;
  const int end = (split + 1) * split_keys;
  const Keys<Key> keys{RowsOfHead(a.k_cache, head, a.heads, a.dim),
                       RowsOfHead(a.v_cache, head, a.heads, a.dim), row.slots, split * split_keys,
                       end < visible ? end : visible};
  const int64_t at_head = static_cast<int64_t>(token) * a.heads + head;
  AttendBlock<kLanes>(a.q + at_head * a.dim, keys, a.dim, a.packed, [&](int at, const Merged& m) {
    if (a.splits == 1) {
      a.out[at_head * a.dim + at] = static_cast<T>(m.sum / m.total);
      return;
    }
    float* parts = a.parts + at_head * (a.dim + 2) * a.splits + split * a.dim;
    parts[at] = m.sum;
    if (at == 0) {
      float* ends = a.parts + at_head * (a.dim + 2) * a.splits + a.splits * a.dim;
      ends[split] = m.largest;
      ends[a.splits + split] = m.total;
    }
  });
}

template <typename T, typename Key>
__global__ void __launch_bounds__(kAttendThreads) MergeSplitsKernel(AttendArguments<T, Key> a) {
  const int token = static_cast<int>(blockIdx.x);
  const int64_t at_head = static_cast<int64_t>(token) * a.heads + blockIdx.y;
  if (a.only_short_rows && SpanOf(a.ragged, RowOfToken(a.ragged, token)).count > kShortRow) return;
  const float* sums = a.parts + at_head * (a.dim + 2) * a.splits;
  const float* largest = sums + a.splits * a.dim;
  const AttendParts parts{largest, largest + a.splits, sums, a.splits, a.dim};
  for (int at = static_cast<int>(threadIdx.x); at < a.dim; at += kAttendThreads) {
    const Merged m = Merge(parts, at);
    a.out[at_head * a.dim + at] = static_cast<T>(m.sum / m.total);
  }
}

// How many blocks should share the keys of a (token, head) to give `processors` two blocks each.
inline int ChooseSplits(int tokens, int heads, int processors) {
  const int64_t blocks = static_cast<int64_t>(tokens) * heads;
  const int64_t splits = (2 * processors) / (blocks > 0 ? blocks : 1);
  return static_cast<int>(splits < 1 ? 1 : splits > kMaxSplits ? kMaxSplits : splits);
}

// REQUIRES: dim <= kMaxAttendDim; parts where splits > 1.
template <typename T, typename Key>
void LaunchAttendToken(const AttendArguments<T, Key>& a, Stream stream) {
  if (a.ragged.tokens == 0) return;
  const dim3 grid{static_cast<unsigned>(a.ragged.tokens), static_cast<unsigned>(a.heads),
                  static_cast<unsigned>(a.splits)};
  ForLanes(a.dim, [&](auto lanes) {
    Launch(AttendTokenKernel<T, Key, lanes.value>, grid, kAttendThreads, stream, a);
  });
  if (a.splits > 1) {
    Launch(MergeSplitsKernel<T, Key>, dim3{grid.x, grid.y}, kAttendThreads, stream, a);
  }
}

}  // namespace idefics::IDEFICS_TARGET
