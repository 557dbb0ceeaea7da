// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/emulated_amx.h"

#include "predictor/ops/cpu/linear_amx_loops.h"

namespace idefics::test {
namespace {

// Byte number `i` of a word.
int32_t Signed(uint32_t word, int i) { return static_cast<int8_t>(word >> (8 * i)); }
int32_t Unsigned(uint32_t word, int i) { return static_cast<uint8_t>(word >> (8 * i)); }

// As Intel's manual describes TDPBSUD, on the four registers of sums at once.
struct EmulatedTiles {
  static void Begin() {}
  static void End() {}

  static void Product(const TileChunk* chunks, int64_t count, int32_t* sums) {
    for (int64_t m = 0; m < kTileRows; ++m) {
      for (int64_t c = 0; c < kTileColumns; ++c) {
        int32_t sum = 0;
        for (int64_t i = 0; i < count; ++i) {
          for (int64_t word = 0; word < kChunkWords; ++word) {
            const uint32_t x = chunks[i].rows[m * chunks[i].row_stride + word];
            const uint32_t w = chunks[i].weights[word * kTileColumns + c];
            for (int byte = 0; byte < 4; ++byte) sum += Signed(x, byte) * Unsigned(w, byte);
          }
        }
        sums[m * kTileColumns + c] = sum;
      }
    }
  }
};

}  // namespace

LinearKernels EmulatedAmxKernels() {
  return {"amx (emulated)",
          nullptr,
          nullptr,
          AmxLoops<EmulatedTiles, 8>::Run,
          AmxLoops<EmulatedTiles, 4>::Run,
          /*int8_takes_shorts=*/false};
}

}  // namespace idefics::test
