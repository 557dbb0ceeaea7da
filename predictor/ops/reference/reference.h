// SPDX-License-Identifier: Apache-2.0
// The reference version of every idefics:: operator in plain ATen: the truth for the fast ones and
// the fallback on devices without one. Shapes in ../README.md. Thread safe.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>

namespace idefics::reference {

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps);
// Returns x + gate · y and its RmsNorm.
std::tuple<at::Tensor, at::Tensor> AddNorm(const at::Tensor& x, const at::Tensor& y,
                                           const std::optional<at::Tensor>& gate,
                                           const at::Tensor& weight, double eps);
// Keys or values in 8 bit (../kv_cache.h): x [N, H, d] → i8 [N, H·(d + 4)], and back in f32.
at::Tensor EncodeKv(const at::Tensor& x);
at::Tensor DecodeKv(const at::Tensor& codes, int64_t heads);
at::Tensor RopeWrite(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
                     const at::Tensor& kv_slots, at::Tensor k_cache, at::Tensor v_cache);
at::Tensor Attend(const at::Tensor& q, const at::Tensor& k_cache, const at::Tensor& v_cache,
                  const at::Tensor& row_starts, const at::Tensor& kv_starts,
                  const at::Tensor& kv_lengths);
at::Tensor AttendImage(const at::Tensor& q, const at::Tensor& image_k, const at::Tensor& image_v,
                       const at::Tensor& image_slots);
// x [..., k] times W^T -> [..., n] in x's type, W as packed_weight.h stores it.
at::Tensor LinearPacked(const at::Tensor& x, const at::Tensor& weight, int64_t n);
at::Tensor LinearInt8(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                      int64_t n);
at::Tensor LinearInt4(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                      int64_t n);
at::Tensor Swiglu(const at::Tensor& gate_up);

}  // namespace idefics::reference
