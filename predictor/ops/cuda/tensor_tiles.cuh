// SPDX-License-Identifier: Apache-2.0
// Tiles of 64 rows of 16-bit numbers in shared memory, as tensor cores take them
// (tensor_steps.cuh), and their filling from rows of queries, keys or values.
#pragma once

#include <type_traits>

#include "predictor/ops/cuda/ragged.cuh"
#include "predictor/ops/cuda/tensor_operands.cuh"

namespace idefics::IDEFICS_TARGET {

constexpr int kTensorTile = 64;     // keys, and queries of a whole block
constexpr int kTensorQueries = 16;  // of a warp
static_assert(kTensorTile == kAttendThreads / 32 * kTensorQueries);

// kTensorTile rows of kPanels · 32 numbers. One pack more puts the same column of eight rows into
// different banks.
template <typename T, int kPanels>
struct TensorTile {
  static constexpr int kPacks = kPanels * 4;
  Pack<T> rows[kTensorTile][kPacks + 1];
};

// Shared memory of a block. Codes of 8 bit become numbers of 16 bit, exactly: keys of the queries'
// type, values bf16, whose range takes a weight times a scale.
template <typename T, typename Key, int kPanels>
struct TensorMemory {
  static constexpr bool kCoded = std::is_same_v<Key, int8_t>;
  using Value = std::conditional_t<kCoded, c10::BFloat16, T>;
  TensorTile<T, kPanels> keys;  // at first the queries
  TensorTile<Value, kPanels> values;
  float key_scales[kCoded ? kTensorTile : 1];
  float value_scales[kCoded ? kTensorTile : 1];
};

// Starts filling `tile` with rows of `from`, by a block of kThreads, zeros beyond `count` and the
// dim. slot_of(row): which of `from` row < count is. What is not copied asynchronously is there
// after a barrier.
template <int kThreads, typename T, int kPanels, typename Key, typename SlotOf>
__device__ __forceinline__ void FillTile(TensorTile<T, kPanels>& tile, const HeadRows<Key>& from,
                                         const SlotOf& slot_of, int count, RowShape shape) {
  constexpr int kPacks = TensorTile<T, kPanels>::kPacks;
  for (int i = static_cast<int>(threadIdx.x); i < kTensorTile * kPacks; i += kThreads) {
    const int row = i / kPacks;
    const int first = i % kPacks * kPack;
    Pack<T>& place = tile.rows[row][i % kPacks];
    if (row >= count || first >= shape.dim) {
      place = {};
      continue;
    }
    const Key* const source = from.At(slot_of(row));
    if constexpr (std::is_same_v<Key, T>) {
      if (shape.packed) {
        CopyAsync(&place, source + first);
      } else {
        place = LoadPack(source, first, shape.dim, false);
      }
    } else {
      const Pack<Key> pack = LoadPack(source, first, shape.dim, shape.packed);
#pragma unroll
      for (int j = 0; j < kPack; ++j) place.at[j] = static_cast<T>(static_cast<float>(pack.at[j]));
    }
  }
}

// The scales of the same rows.
template <typename Key, typename SlotOf>
__device__ __forceinline__ void FillScales(float* scales, const HeadRows<Key>& from,
                                           const SlotOf& slot_of, int count) {
  const int row = static_cast<int>(threadIdx.x);
  if (!std::is_same_v<Key, int8_t> || row >= kTensorTile) return;
  scales[row] = row < count ? from.ScaleAt(slot_of(row)) : 0.0f;
}

// The warp's queries, as they lie in `tile`.
template <typename T, int kPanels>
struct TensorQueries {
  OperandA steps[kPanels * 2];

  __device__ __forceinline__ explicit TensorQueries(const TensorTile<T, kPanels>& tile) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int row = static_cast<int>(threadIdx.x) / 32 * kTensorQueries + lane % 16;
#pragma unroll
    for (int step = 0; step < kPanels * 2; ++step) {
      const FourMatrices m = LoadMatrices<false>(&tile.rows[row][step * 2 + lane / 16]);
#pragma unroll
      for (int i = 0; i < 4; ++i) steps[step].pairs[i] = m.pairs[i];
    }
  }
};

// What a tile's queries see, tile of keys after tile: slots of keys, and how many keys there are.
template <typename Key, typename SlotOf>
struct TileKeys {
  HeadRows<Key> k;
  HeadRows<Key> v;
  SlotOf slot_of;  // key → slot
  int count;
  RowShape shape;
};

}  // namespace idefics::IDEFICS_TARGET
