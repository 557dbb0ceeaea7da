// SPDX-License-Identifier: Apache-2.0
// The packed linears of every instruction set that this CPU has, against plain matrix products.
#include "predictor/ops/cpu/linear.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "predictor/ops/cpu/instruction_sets.h"
#include "predictor/ops/cpu/linear_choice.h"
#include "predictor/ops/packed_weight.h"
#include "tests/model/packed_linears.h"
#include "tests/model/ragged_step.h"

namespace idefics::test {
namespace {

constexpr uint64_t kSeed = 20261122;

const LinearSize kSizes[] = {{64, 128}, {70, 33}, {1, 1}, {130, 1000}, {200, 515}, {32, 4096}};
const int64_t kRows[] = {1, 2, 3, 5, 6, 7, 8, 13, 40, 97};

// The number of torch's threads, as long as this lives.
class Threads {
 public:
  explicit Threads(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

// Prints once which sets run here, and what the others lack.
std::vector<const LinearKernels*> TestedKernels() {
  static const std::vector<const LinearKernels*> tested = [] {
    for (const InstructionSet& set : InstructionSets()) {
      std::cerr << set.name
                << (set.Usable() ? ": tested" : ": skipped, this CPU lacks " + set.Missing())
                << "\n";
    }
    return UsableLinearKernels();
  }();
  return tested;
}

// Calls run(kernels, size, rows) for every set of kernels.
void ForEachShape(
    const std::function<void(const LinearKernels&, const LinearSize&, int64_t)>& run) {
  at::manual_seed(kSeed);
  for (const LinearKernels* kernels : TestedKernels()) {
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

// Their groups are added in f32 by the same fused steps; only the portable set has none.
TEST_CASE("int8 and int4 products are the same on every set with fused steps, bit by bit",
          "[linear]") {
  at::manual_seed(kSeed);
  for (const LinearSize& size : kSizes) {
    for (const int64_t rows : kRows) {
      const at::Tensor x = at::randn({rows, size.k});
      const Quantized int8 = RandomInt8(size);
      const Quantized int4 = RandomInt4(size);
      at::Tensor first8, first4;
      for (const LinearKernels* kernels : TestedKernels()) {
        if (std::string(kernels->name) == "portable") continue;
        INFO(kernels->name << ", " << rows << " rows, n " << size.n << ", k " << size.k);
        const at::Tensor y8 = LinearInt8(x, int8.weight, int8.scale, size.n, *kernels);
        const at::Tensor y4 = LinearInt4(x, int4.weight, int4.scale, size.n, *kernels);
        if (!first8.defined()) first8 = y8, first4 = y4;
        CHECK(at::equal(y8, first8));
        CHECK(at::equal(y4, first4));
      }
    }
  }
}

// Every weight and every activation at the end of its range: 16-bit sums are at their largest.
TEST_CASE("the largest numbers do not saturate", "[linear]") {
  const LinearSize size{64, 1024};
  for (const LinearKernels* kernels : TestedKernels()) {
    for (const int sign : {-1, 1}) {
      for (const int64_t rows : kRows) {
        INFO(kernels->name << ", " << rows << " rows, sign " << sign);
        const at::Tensor x = at::full({rows, size.k}, 127.0f * static_cast<float>(sign));
        const at::Tensor ones = at::ones({1, kTileColumns});
        const at::Tensor q = at::full({1, size.k / 4, kTileColumns, 4}, 255, at::kByte);
        const at::Tensor y8 = LinearInt8(x, q, ones, size.n, *kernels);
        CHECK(at::equal(y8, at::full({rows, size.n}, 127.0 * 127 * 1024 * sign)));
        const at::Tensor u = at::full({1, size.k / 8, kTileColumns, 4}, 255, at::kByte);
        at::Tensor range = at::zeros({1, size.k / kGroup, 2, kTileColumns}, at::kBFloat16);
        range.select(2, 0).fill_(1);
        const at::Tensor y4 = LinearInt4(x, u, range, size.n, *kernels);
        CHECK(at::equal(y4, at::full({rows, size.n}, 15.0 * 127 * 1024 * sign)));
      }
    }
  }
}

// 4 tiles on 3 or 16 threads: each tile's rows are divided too, unequally.
TEST_CASE("a product is the same on any number of threads, bit by bit", "[linear]") {
  at::manual_seed(kSeed);
  const int64_t rows = 259;
  const LinearSize size{200, 515};
  const at::Tensor x = at::randn({rows, size.k});
  const at::Tensor w = at::randn({size.n, size.k});
  const at::Tensor pairs = Tiled(w.to(at::kBFloat16), 2);
  const Quantized int8 = RandomInt8(size);
  const Quantized int4 = RandomInt4(size);
  for (const LinearKernels* kernels : TestedKernels()) {
    at::Tensor first16, first8, first4;
    for (const int threads : {1, 3, 16}) {
      const Threads these(threads);
      INFO(kernels->name << ", " << threads << " threads");
      const at::Tensor y16 = LinearPacked(x.to(at::kBFloat16), pairs, size.n, *kernels);
      const at::Tensor y8 = LinearInt8(x, int8.weight, int8.scale, size.n, *kernels);
      const at::Tensor y4 = LinearInt4(x, int4.weight, int4.scale, size.n, *kernels);
      if (!first8.defined()) first16 = y16, first8 = y8, first4 = y4;
      CHECK(at::equal(y16, first16));
      CHECK(at::equal(y8, first8));
      CHECK(at::equal(y4, first4));
    }
  }
}

TEST_CASE("no rows give no rows", "[linear]") {
  const LinearSize size{70, 132};
  const at::Tensor x = at::empty({0, size.k});
  const at::Tensor packed = Tiled(at::randn({size.n, size.k}), 1).squeeze(3);
  const Quantized int8 = RandomInt8(size);
  const Quantized int4 = RandomInt4(size);
  const at::Tensor none = at::empty({0, size.n});
  for (const LinearKernels* kernels : TestedKernels()) {
    CHECK(at::equal(LinearPacked(x, packed, size.n, *kernels), none));
    CHECK(at::equal(LinearInt8(x, int8.weight, int8.scale, size.n, *kernels), none));
    CHECK(at::equal(LinearInt4(x, int4.weight, int4.scale, size.n, *kernels), none));
  }
}

TEST_CASE("IDEFICS_CPU names a set, and another name is one sentence", "[linear]") {
  const auto best = std::ranges::find_if(
      InstructionSets(), [](const InstructionSet& set) { return set.Usable() && !set.on_request; });
  CHECK(ChooseInstructionSet("").set == &*best);
  CHECK(ChooseInstructionSet("portable").set->name == std::string("portable"));
  const InstructionSetChoice unknown = ChooseInstructionSet("avx1024");
  CHECK(unknown.set == nullptr);
  CHECK(unknown.why.starts_with("IDEFICS_CPU=avx1024 is no instruction set of this program"));
  for (const InstructionSet& set : InstructionSets()) {
    const InstructionSetChoice choice = ChooseInstructionSet(set.name);
    CHECK((choice.set == &set) == set.Usable());
    if (!set.Usable()) CHECK(choice.why.find("which this CPU does not have") != std::string::npos);
  }
}

TEST_CASE("an activation that is no number reaches every output of its row only", "[linear]") {
  at::manual_seed(kSeed);
  const LinearSize size{70, 300};
  for (const LinearKernels* kernels : TestedKernels()) {
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
