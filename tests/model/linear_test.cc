// SPDX-License-Identifier: Apache-2.0
// The packed linears of every instruction set that this CPU has, against plain matrix products.
#include "predictor/ops/cpu/linear.h"

#include <ATen/ATen.h>

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <functional>
#include <string>

#include "predictor/ops/cpu/linear.h"
#include "predictor/ops/packed_weight.h"
#include "tests/model/packed_linears.h"
#include "tests/model/ragged_step.h"

namespace idefics::test {
namespace {

constexpr uint64_t kSeed = 20261122;

const LinearSize kSizes[] = {{64, 128}, {70, 33}, {1, 1}, {130, 1000}, {200, 515}, {32, 4096}};
const int64_t kRows[] = {1, 2, 3, 5, 6, 7, 8, 13, 40};

// Calls run(kernels, size, rows) for every set of kernels.
void ForEachShape(
    const std::function<void(const LinearKernels&, const LinearSize&, int64_t)>& run) {
  at::manual_seed(kSeed);
  for (const LinearKernels* kernels : UsableLinearKernels()) {
    for (const LinearSize& size : kSizes) {
      for (const int64_t rows : kRows) {
        INFO(kernels->name << ", " << rows << " rows, n " << size.n << ", k " << size.k);
        run(*kernels, size, rows);
      }
    }
  }
}

// |mine - truth| against the size of what was summed.
double RelativeError(const at::Tensor& mine, const at::Tensor& truth, const at::Tensor& x,
                     const at::Tensor& w) {
  const at::Tensor summed = at::matmul(x.abs().to(at::kDouble), w.abs().to(at::kDouble).t());
  return ((mine.to(at::kDouble) - truth).abs() / (summed + 1e-30)).max().item<double>();
}

TEST_CASE("the f32 and bf16 kernels agree with a product in double", "[linear]") {
  ForEachShape([](const LinearKernels& kernels, const LinearSize& size, int64_t rows) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      const at::Tensor w = at::randn({size.n, size.k}).to(type);
      const at::Tensor x = at::randn({rows, size.k}).to(type);
      const at::Tensor packed = type == at::kFloat ? Tiled(w, 1).squeeze(3) : Tiled(w, 2);
      const at::Tensor truth = at::matmul(x.to(at::kDouble), w.to(at::kDouble).t());
      const at::Tensor mine = LinearPacked(x, packed, size.n, kernels);
      REQUIRE(mine.scalar_type() == type);
      REQUIRE(mine.sizes() == truth.sizes());
      CHECK(RelativeError(mine, truth, x, w) < (type == at::kFloat ? 2e-6 : 5e-3));
    }
  });
}

TEST_CASE("the int8 and int4 kernels agree with the weights that they stand for", "[linear]") {
  ForEachShape([](const LinearKernels& kernels, const LinearSize& size, int64_t rows) {
    const at::Tensor x = at::randn({rows, size.k});
    const Quantized int8 = RandomInt8(size);
    const at::Tensor w8 = DequantizeInt8(int8.weight, int8.scale, size.n, size.k);
    const at::Tensor truth8 = at::matmul(x.to(at::kDouble), w8.to(at::kDouble).t());
    // Activations of 8 bit: half a step of 127 for the largest value of a group.
    CHECK(RelativeError(LinearInt8(x, int8.weight, int8.scale, size.n, kernels), truth8, x, w8) <
          0.02);
    const Quantized int4 = RandomInt4(size);
    const at::Tensor w4 = DequantizeInt4(int4.weight, int4.scale, size.n, size.k);
    const at::Tensor truth4 = at::matmul(x.to(at::kDouble), w4.to(at::kDouble).t());
    CHECK(RelativeError(LinearInt4(x, int4.weight, int4.scale, size.n, kernels), truth4, x, w4) <
          0.02);
  });
}

TEST_CASE("activations that 8 bit hold exactly give exact sums", "[linear]") {
  ForEachShape([](const LinearKernels& kernels, const LinearSize& size, int64_t rows) {
    at::Tensor x = at::randint(-126, 127, {rows, size.k}).to(at::kFloat);
    // The largest of each group is 127, so that the scale is one.
    x.index_put_({at::indexing::Slice(), at::indexing::Slice(0, at::indexing::None, kGroup)},
                 at::scalar_tensor(127.0f));
    const Quantized int8 = RandomInt8(size);
    const at::Tensor w8 = DequantizeInt8(int8.weight, int8.scale, size.n, size.k);
    const at::Tensor truth = at::matmul(x.to(at::kDouble), w8.to(at::kDouble).t());
    CHECK(RelativeError(LinearInt8(x, int8.weight, int8.scale, size.n, kernels), truth, x, w8) <
          1e-6);
    const Quantized int4 = RandomInt4(size);
    const at::Tensor w4 = DequantizeInt4(int4.weight, int4.scale, size.n, size.k);
    const at::Tensor truth4 = at::matmul(x.to(at::kDouble), w4.to(at::kDouble).t());
    CHECK(RelativeError(LinearInt4(x, int4.weight, int4.scale, size.n, kernels), truth4, x, w4) <
          2e-6);
  });
}

TEST_CASE("a row's product is the same alone and among others, bit by bit", "[linear]") {
  ForEachShape([](const LinearKernels& kernels, const LinearSize& size, int64_t rows) {
    const at::Tensor x = at::randn({rows, size.k});
    const at::Tensor w = at::randn({size.n, size.k});
    const Quantized int8 = RandomInt8(size);
    const Quantized int4 = RandomInt4(size);
    const auto bf16 = [](const at::Tensor& t) { return t.to(at::kBFloat16); };
    const auto check = [&](const std::function<at::Tensor(const at::Tensor&)>& linear) {
      const at::Tensor together = linear(x);
      for (int64_t row = 0; row < rows; ++row) {
        CHECK(at::equal(linear(x.narrow(0, row, 1)), together.narrow(0, row, 1)));
      }
    };
    const at::Tensor packed = Tiled(w, 1).squeeze(3);
    const at::Tensor pairs = Tiled(bf16(w), 2);
    check([&](const at::Tensor& t) { return LinearPacked(t, packed, size.n, kernels); });
    check([&](const at::Tensor& t) { return LinearPacked(bf16(t), pairs, size.n, kernels); });
    check([&](const at::Tensor& t) {
      return LinearInt8(t, int8.weight, int8.scale, size.n, kernels);
    });
    check([&](const at::Tensor& t) {
      return LinearInt4(t, int4.weight, int4.scale, size.n, kernels);
    });
  });
}

TEST_CASE("an activation that is no number reaches every output of its row only", "[linear]") {
  at::manual_seed(kSeed);
  const LinearSize size{70, 300};
  for (const LinearKernels* kernels : UsableLinearKernels()) {
    for (const float odd : {NAN, INFINITY}) {
      at::Tensor x = at::randn({2, size.k});
      x[1][200] = odd;
      const Quantized int8 = RandomInt8(size);
      const at::Tensor y = LinearInt8(x, int8.weight, int8.scale, size.n, *kernels);
      INFO(kernels->name);
      CHECK(at::isfinite(y[0]).all().item<bool>());
      CHECK(at::isnan(y[1]).all().item<bool>());
    }
  }
}

TEST_CASE("a weight of another shape is refused with a sentence", "[linear]") {
  const LinearKernels& kernels = ChooseLinearKernels();
  const at::Tensor x = at::zeros({2, 128});
  const Quantized int8 = RandomInt8({64, 128});
  CHECK_THROWS_AS(LinearInt8(x, int8.weight, int8.scale, 65, kernels), c10::Error);
  CHECK_THROWS_AS(LinearInt8(at::zeros({2, 132}), int8.weight, int8.scale, 64, kernels),
                  c10::Error);
  CHECK_THROWS_AS(LinearPacked(x, at::zeros({1, 127, 64}), 64, kernels), c10::Error);
}

}  // namespace
}  // namespace idefics::test
