// SPDX-License-Identifier: Apache-2.0
// Random linears and activations in the forms that the CPU's kernels take, and what each product
// must be, computed a number at a time: without torch, so that an emulator can run it.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "predictor/ops/cpu/linear_kernels.h"

namespace idefics::test {

struct ProductSize {
  int64_t n, k, m;
};

enum class WeightKind { kF32, kBf16, kInt8, kInt4 };

// One product and its truth. Owns what `arguments` points to.
class PackedProduct {
 public:
  // as_shorts: int8_takes_shorts of the kernels.
  PackedProduct(WeightKind kind, const ProductSize& size, bool as_shorts, std::mt19937& random);

  // What the kernel made, [m, n]; of rows first … first + rows - 1, as a call of their own.
  std::vector<float> Run(LinearKernel kernel, int64_t first, int64_t rows);

  // [m, n]: added up in the order of k with fused steps, as linear_kernels.h promises.
  std::vector<float> Expected() const;

  // [m, n]: the sums of the products' sizes, against which other orders are judged.
  std::vector<float> Magnitudes() const;

 private:
  void MakeFloats(std::mt19937& random);
  void MakeInts(std::mt19937& random, bool as_shorts);
  float FloatSum(int64_t row, int64_t column) const;
  float IntSum(int64_t row, int64_t column) const;

  WeightKind kind_;
  ProductSize size_;
  int64_t tiles_, steps_, groups_;
  std::vector<float> x_, w_;  // [m, k], [n, k]; of ints the numbers that are stored
  std::vector<uint32_t> x_words_, w_words_;
  int64_t x_stride_ = 0;
  std::vector<float> x_scale_, w_scale_;
  std::vector<int32_t> x_sum_;
  std::vector<uint16_t> w_range_;
};

}  // namespace idefics::test
