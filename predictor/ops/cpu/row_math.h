// SPDX-License-Identifier: Apache-2.0
// Arithmetic on single rows of f32, bf16 or f16 numbers, for the CPU operators. Products and sums
// are f32. row_math.cc is compiled for several instruction sets, of which one is chosen when the
// library loads. Thread safe.
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

// Activations as 8-bit integers for the int8 and int4 kernels: each row and group of kGroup values
// has a scale of its own (as llama.cpp's Q8 blocks), so that one large value costs only its group
// precision.
// The result for x [k]: q [padded], zero from k on, with x ≈ q · scale[group], and sum[group] of q.
// There are ceil(k / 128) groups. `padded` is a multiple of 8 and at least k.
struct QuantizedRow {
  int8_t* q;
  float* scale;
  int32_t* sum;
};

void QuantizeRow(const float* x, int64_t k, int64_t padded, const QuantizedRow& row);
void QuantizeRow(const c10::BFloat16* x, int64_t k, int64_t padded, const QuantizedRow& row);
void QuantizeRow(const c10::Half* x, int64_t k, int64_t padded, const QuantizedRow& row);

// Quads of bytes as 16-bit numbers, in place: (a, b, c, d) becomes (a, c, b, d). `q` has 4 · quads
// bytes and room for twice as many.
void WidenQuads(int64_t quads, int8_t* q);

}  // namespace idefics
