// SPDX-License-Identifier: Apache-2.0
// Compiled with -mamx-tile -mamx-int8 and the flags of linear_avx512.cc: one instruction multiplies
// 64 bytes of 16 rows with those of 16 columns. Fewer rows than fill a tile go to AVX-512's VNNI.
#include <immintrin.h>

#include "predictor/ops/cpu/linear_amx_loops.h"

namespace idefics {
namespace {

// Palette 1: every register has 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

struct AmxTiles {
  static void Begin() {
    const TileConfig config;
    _tile_loadconfig(&config);
  }
  static void End() { _tile_release(); }

  // Registers 0 to 3 hold the sums of a fourth of the columns each, 4 the rows, 5 the weights.
  static void Product(const TileChunk* chunks, int64_t count, int32_t* sums) {
    constexpr int64_t kLineBytes = kTileColumns * 4;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t* const w = chunks[i].weights;
      _tile_loadd(4, chunks[i].rows, chunks[i].row_stride * 4);
      _tile_loadd(5, w, kLineBytes);
      _tile_dpbsud(0, 4, 5);
      _tile_loadd(5, w + 16, kLineBytes);
      _tile_dpbsud(1, 4, 5);
      _tile_loadd(5, w + 32, kLineBytes);
      _tile_dpbsud(2, 4, 5);
      _tile_loadd(5, w + 48, kLineBytes);
      _tile_dpbsud(3, 4, 5);
    }
    _tile_stored(0, sums, kLineBytes);
    _tile_stored(1, sums + 16, kLineBytes);
    _tile_stored(2, sums + 32, kLineBytes);
    _tile_stored(3, sums + 48, kLineBytes);
  }
};

template <int kBits>
void Run(const LinearArguments& a, int64_t begin, int64_t end) {
  if (a.m < kTileRows) {
    const LinearKernels* const few = LinearKernelsAvx512Bf16();
    return (kBits == 8 ? few->int8 : few->int4)(a, begin, end);
  }
  AmxLoops<AmxTiles, kBits>::Run(a, begin, end);
}

}  // namespace

const LinearKernels* LinearKernelsAmx() {
  static const LinearKernels kernels = {"amx",
                                        LinearKernelsAvx512Bf16()->f32,
                                        LinearKernelsAvx512Bf16()->bf16,
                                        Run<8>,
                                        Run<4>,
                                        /*int8_takes_shorts=*/false};
  return &kernels;
}

}  // namespace idefics
