// SPDX-License-Identifier: Apache-2.0
// The int8 and int4 kernels on tiles of 16 rows (Intel's AMX): the same integer sums of each group
// and the same fused steps between groups as linear_int_tile.h has, so the same bits. `Tiles` has
//   static void Begin(), End(): around the products of one call of a kernel;
//   static void Product(const TileChunk* chunks, int64_t count, int32_t* sums);
// sums [16, 64] = Σ over the chunks of rows · weights. Included only by linear_amx.cc and by the
// test that runs it without the instructions; nothing of the standard library is used here, for the
// reason that linear_tile.h gives.
#pragma once

#include "predictor/ops/cpu/inlining.h"
#include "predictor/ops/cpu/linear_kernels.h"

namespace idefics {

constexpr int64_t kTileRows = 16;
constexpr int64_t kChunkWords = 16;  // of k: 64 values, a tile's width
constexpr int64_t kGroupChunks = kGroup / (4 * kChunkWords);

struct TileChunk {
  const uint32_t* rows;  // [16, row_stride] words, of which 16: quads of s8
  int64_t row_stride;
  const uint32_t* weights;  // [16, 64] words: quads of u8
};

template <typename Tiles, int kBits>
struct AmxLoops {
  static constexpr int64_t kGroupSteps = kGroup * kBits / 32;

  // Rows of activations, and words of one group of k.
  struct Part {
    int64_t row, rows;
    int64_t group, words;
  };

  // What tiles take in the place of rows or steps that are not there. Zeros where nothing is.
  struct Scratch {
    uint32_t rows[kGroupChunks][kTileRows][kChunkWords];
    uint32_t weights[kGroupChunks * kChunkWords][kTileColumns];
    int32_t sums[kTileRows][kTileColumns];
  };

  // Weights of one group as [32, 64] words of bytes: as they lie where they are whole, else a copy.
  static const uint32_t* Bytes(const uint32_t* w, int64_t steps, Scratch& scratch) {
    if (kBits == 8 && steps == kGroupSteps) return w;
    uint32_t(*to)[kTileColumns] = scratch.weights;
    for (int64_t i = 0; i < kGroupSteps; ++i, w += kTileColumns) {
      for (int64_t c = 0; c < kTileColumns; ++c) {
        const uint32_t word = i < steps ? w[c] : 0;
        if constexpr (kBits == 8) {
          to[i][c] = word;
        } else {
          to[2 * i][c] = word & 0x0f0f0f0f;
          to[2 * i + 1][c] = (word >> 4) & 0x0f0f0f0f;
        }
      }
    }
    return scratch.weights[0];
  }

  // Gives the chunks of one group their rows, of which there may be fewer than 16, and words.
  static void SetRows(const LinearArguments& a, const Part& part, Scratch& scratch,
                      TileChunk* chunks) {
    const uint32_t* const x = a.x + part.row * a.x_stride + part.group * kGroupChunks * kChunkWords;
    for (int64_t i = 0; i < kGroupChunks; ++i) {
      const int64_t first = i * kChunkWords;
      chunks[i].rows = x + first;
      chunks[i].row_stride = a.x_stride;
      if (part.rows == kTileRows && first + kChunkWords <= part.words) continue;
      for (int64_t m = 0; m < kTileRows; ++m) {
        for (int64_t word = 0; word < kChunkWords; ++word) {
          const bool is_there = m < part.rows && first + word < part.words;
          scratch.rows[i][m][word] = is_there ? x[m * a.x_stride + first + word] : 0;
        }
      }
      chunks[i].rows = scratch.rows[i][0];
      chunks[i].row_stride = kChunkWords;
    }
  }

  static IDEFICS_INLINE float Wide(uint16_t bf16) {
    return __builtin_bit_cast(float, static_cast<uint32_t>(bf16) << 16);
  }

  // Adds a group's integer sums to y.
  static void AddGroup(const LinearArguments& a, int64_t tile, const Part& part,
                       const Scratch& scratch) {
    const uint16_t* const range = a.w_range + (tile * a.groups + part.group) * 2 * kTileColumns;
    for (int64_t m = 0; m < part.rows; ++m) {
      float* const y = a.y + (part.row + m) * a.y_stride + tile * kTileColumns;
      const float scale = a.x_scale[(part.row + m) * a.groups + part.group];
      const int32_t x_sum = a.x_sum[(part.row + m) * a.groups + part.group];
      const float offset = scale * static_cast<float>(x_sum);
      for (int64_t c = 0; c < kTileColumns; ++c) {
        float total = part.group == 0 ? 0.0f : y[c];
        if constexpr (kBits == 8) {
          // int8 weights are stored with 128 added.
          const auto sum = static_cast<float>(scratch.sums[m][c] - 128 * x_sum);
          total = __builtin_fmaf(sum, scale, total);
        } else {
          const auto sum = static_cast<float>(scratch.sums[m][c]);
          total = __builtin_fmaf(Wide(range[c]) * scale, sum, total);
          total = __builtin_fmaf(Wide(range[kTileColumns + c]), offset, total);
        }
        y[c] = total;
      }
    }
  }

  static void Tile(const LinearArguments& a, int64_t tile, Scratch& scratch) {
    TileChunk chunks[kGroupChunks];
    for (int64_t group = 0; group < a.groups; ++group) {
      const int64_t first = group * kGroupSteps;
      const int64_t steps = a.steps - first < kGroupSteps ? a.steps - first : kGroupSteps;
      const uint32_t* const w = a.w + (tile * a.steps + first) * kTileColumns;
      const uint32_t* const bytes = Bytes(w, steps, scratch);
      for (int64_t i = 0; i < kGroupChunks; ++i) {
        chunks[i].weights = bytes + i * kChunkWords * kTileColumns;
      }
      for (int64_t row = 0; row < a.m; row += kTileRows) {
        const int64_t rows = a.m - row < kTileRows ? a.m - row : kTileRows;
        const Part part{row, rows, group, steps * 8 / kBits};
        SetRows(a, part, scratch, chunks);
        Tiles::Product(chunks, kGroupChunks, scratch.sums[0]);
        AddGroup(a, tile, part, scratch);
      }
    }
    if constexpr (kBits == 8) {
      const float* const scale = a.w_scale + tile * kTileColumns;
      float* y = a.y + tile * kTileColumns;
      for (int64_t m = 0; m < a.m; ++m, y += a.y_stride) {
        for (int64_t c = 0; c < kTileColumns; ++c) y[c] *= scale[c];
      }
    }
  }

  static void Run(const LinearArguments& a, int64_t begin, int64_t end) {
    Scratch scratch;
    Tiles::Begin();
    for (int64_t tile = begin; tile < end; ++tile) Tile(a, tile, scratch);
    Tiles::End();
  }
};

}  // namespace idefics
