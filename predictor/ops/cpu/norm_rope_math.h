// SPDX-License-Identifier: Apache-2.0
// RMSNorm, residuals, rotary embedding and 8-bit codes of single rows of f32, bf16 or f16 numbers,
// for the CPU operators. norm_rope_math.cc is compiled for several instruction sets, of which one
// is chosen when the library loads. Thread safe.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdint>

namespace idefics {

// docs/model.md#rmsnorm: x / sqrt(mean(x²) + eps), rounded to T, times weight, rounded to T. n
// elements.
void NormRow(const float* x, const float* weight, float eps, float* out, int64_t n);
void NormRow(const c10::BFloat16* x, const c10::BFloat16* weight, float eps, c10::BFloat16* out,
             int64_t n);
void NormRow(const c10::Half* x, const c10::Half* weight, float eps, c10::Half* out, int64_t n);

// out = x + gate · y; the product, then the sum, rounded to T. gate: n numbers, one (gate_size 1)
// or none (0).
void AddRow(const float* x, const float* y, const float* gate, int64_t gate_size, float* out,
            int64_t n);
void AddRow(const c10::BFloat16* x, const c10::BFloat16* y, const c10::BFloat16* gate,
            int64_t gate_size, c10::BFloat16* out, int64_t n);
void AddRow(const c10::Half* x, const c10::Half* y, const c10::Half* gate, int64_t gate_size,
            c10::Half* out, int64_t n);

// Rotates the pairs (in[i], in[i + half]) by the angles of cos[i], sin[i]; one rounding to T.
void RotateRow(const float* in, const float* cos, const float* sin, float* out, int64_t half);
void RotateRow(const c10::BFloat16* in, const float* cos, const float* sin, c10::BFloat16* out,
               int64_t half);
void RotateRow(const c10::Half* in, const float* cos, const float* sin, c10::Half* out,
               int64_t half);

// The codes of a head's n numbers in an 8-bit KV cache; returns their scale (../kv_cache.h).
float EncodeHead(const float* x, int64_t n, int8_t* codes);
float EncodeHead(const c10::BFloat16* x, int64_t n, int8_t* codes);
float EncodeHead(const c10::Half* x, int64_t n, int8_t* codes);

}  // namespace idefics
