// SPDX-License-Identifier: Apache-2.0
// Arithmetic on single rows of f32, bf16 or f16 numbers, for the CPU operators. Products and sums
// are f32. Compiled for several instruction sets (row_math.cc), chosen when the library loads.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdint>

namespace idefics {

// silu(gate[i])·up[i], rounding silu to the element type first, as two separate ATen operators do.
void SiluMultiply(const float* gate, const float* up, float* out, int64_t n);
void SiluMultiply(const c10::BFloat16* gate, const c10::BFloat16* up, c10::BFloat16* out,
                  int64_t n);
void SiluMultiply(const c10::Half* gate, const c10::Half* up, c10::Half* out, int64_t n);

// out[i] = in[i] rounded to the element type.
void NarrowRow(const float* in, float* out, int64_t n);
void NarrowRow(const float* in, c10::BFloat16* out, int64_t n);
void NarrowRow(const float* in, c10::Half* out, int64_t n);

}  // namespace idefics
