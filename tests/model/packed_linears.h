// SPDX-License-Identifier: Apache-2.0
// Random linears in the stored forms of predictor/ops/packed_weight.h, for tests. Made on the CPU
// by the default generator.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/model/operators.h"

namespace idefics::test {

struct LinearSize {
  int64_t n, k;
};

// W [n, k] → [tiles, k / values, 64, values], zero-filled; one value of it is one of a word.
at::Tensor Tiled(const at::Tensor& w, int64_t values);

struct Quantized {
  at::Tensor weight, scale;
};

Quantized RandomInt8(const LinearSize& size);
Quantized RandomInt4(const LinearSize& size);

// One linear as an operator of x [..., k].
struct LinearOperator {
  std::string name;
  at::Tensor w;  // [n, k] f32
  std::function<at::Tensor(const at::Tensor& x)> run;
  bool fp8 = false;
};

// linear_packed (also with fp8), linear_int8 and linear_int4 with random weights on `device`;
// `type`: of the packed one's weight.
std::vector<LinearOperator> LinearOperators(const Operators& operators, const LinearSize& size,
                                            at::ScalarType type, at::Device device);

// The numbers of x [m, k] in e4m3 with a scale a row: f64.
at::Tensor RowsInFp8(const at::Tensor& x);

// x [m, k] times W [n, k], rounded once. From 33 rows on, as the CUDA operators do, W is rounded to
// x's type first (but int8 in tiles is not), or, where the chip multiplies fp8 and takes the sizes,
// x to e4m3.
at::Tensor ProductInDouble(const at::Tensor& x, const LinearOperator& linear, bool supports_fp8);

}  // namespace idefics::test
