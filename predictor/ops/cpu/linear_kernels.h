// SPDX-License-Identifier: Apache-2.0
// y = x wᵀ on the CPU over packed weights (layouts: ../packed_weight.h), in versions for several
// instruction sets. Every output is one sum in the order of k, whatever the number of rows, so a
// row's result does not depend on its neighbours, bit for bit.
#pragma once

#include <cstdint>

#include "weights/linear_layout.h"

namespace idefics {

constexpr int64_t kLineWords = 16;  // 32-bit words of a cache line

// A tile's weights are 32-bit words, 64 columns to a step. A word holds, for one column: one f32;
// two bf16; four int8 (stored + 128); eight int4 (low nibbles are the first four).
struct LinearArguments {
  // [m, x_stride] words: f32; bf16 pairs; quads of s8, or, for kernels with int8_takes_shorts, each
  // quad as two words of 16-bit numbers: the first and the third, the second and the fourth.
  const uint32_t* x = nullptr;
  const uint32_t* w = nullptr;  // [tiles, steps, 64]
  float* y = nullptr;           // [m, y_stride]; columns of all tiles
  int64_t m = 0;
  int64_t x_stride = 0;
  int64_t y_stride = 0;
  int64_t steps = 0;  // words of a column
  // int8 and int4 only. x = q · x_scale of its row and group.
  const float* x_scale = nullptr;     // [m, groups]
  const int32_t* x_sum = nullptr;     // [m, groups]: sum of q
  const float* w_scale = nullptr;     // int8: [tiles, 64]
  const uint16_t* w_range = nullptr;  // int4: bf16 [tiles, groups, 2, 64]: step, minimum
  int64_t groups = 0;

  // The product of rows first … first + count - 1 alone.
  LinearArguments Rows(int64_t first, int64_t count) const {
    LinearArguments rows = *this;
    rows.m = count;
    rows.x += first * x_stride;
    rows.y += first * y_stride;
    rows.x_scale += first * groups;
    rows.x_sum += first * groups;
    return rows;
  }
};

// The part of the product that one call of a kernel's inner loops covers: columns from `column` on
// of one tile, rows from `row` on, steps from first_step on.
struct TilePart {
  int64_t tile;
  int64_t column;
  int64_t row;
  int64_t first_step;
  int64_t steps;
  const uint32_t* ahead;  // weights to prefetch: see Pass in linear_tile.h

  const uint32_t* Weights(const LinearArguments& a) const {
    return a.w + (tile * a.steps + first_step) * kTileColumns + column;
  }
  float* Sums(const LinearArguments& a) const {
    return a.y + row * a.y_stride + tile * kTileColumns + column;
  }
};

// Computes the tiles begin … end - 1. REQUIRES: m ≥ 1. Thread safe for disjoint tiles, and for one
// tile's disjoint rows.
using LinearKernel = void (*)(const LinearArguments&, int64_t begin, int64_t end);

struct LinearKernels {
  const char* name;  // of instruction_sets.h
  LinearKernel f32;
  LinearKernel bf16;
  LinearKernel int8;
  LinearKernel int4;
  bool int8_takes_shorts;
};

// One table for each instruction set that linear_choice.cc names for the kind of CPU. REQUIRES: the
// CPU has the instructions.
const LinearKernels* LinearKernelsAmx();         // bytes on tiles of 16 rows
const LinearKernels* LinearKernelsAvx512Bf16();  // bf16 and byte products
const LinearKernels* LinearKernelsAvx512Vnni();  // byte products
const LinearKernels* LinearKernelsAvx512();
const LinearKernels* LinearKernelsAvxVnni();  // 256 bits with byte products
const LinearKernels* LinearKernelsAvx2();
const LinearKernels* LinearKernelsNeonI8mm();     // bytes of two columns and two rows
const LinearKernels* LinearKernelsNeonDotprod();  // byte products
const LinearKernels* LinearKernelsPortable();

}  // namespace idefics
