// SPDX-License-Identifier: Apache-2.0
// The packed linears of CUDA, run on the host, against plain matrix products.
#include <ATen/ATen.h>

#include <catch2/catch_test_macros.hpp>
#include <limits>
#include <memory>
#include <vector>

#include "predictor/ops/cuda/k_splits.h"
#include "predictor/ops/cuda/on_device.cuh"
#include "predictor/ops/packed_weight.h"
#include "tests/model/operators.h"
#include "tests/model/packed_linears.h"
#include "tests/model/ragged_step.h"

namespace idefics::test {
namespace {

constexpr uint64_t kSeed = 20261122;

const LinearSize kSizes[] = {{64, 128},  {70, 33},   {1, 1},   {130, 1000},
                             {200, 516}, {32, 4104}, {48, 208}};
// Tiles of 16 rows, whole and not; from 33 on W is unpacked for a matrix product.
const int64_t kRows[] = {1, 2, 8, 9, 16, 17, 32, 33};
const at::ScalarType k16Bit[] = {at::kBFloat16, at::kHalf};

std::vector<LinearOperator> Linears(const LinearSize& size, at::ScalarType type) {
  return LinearOperators(HostCudaOperators(), size, type, at::kCPU);
}

TEST_CASE("every CUDA linear agrees with a product in double", "[cuda_linear]") {
  at::manual_seed(kSeed);
  for (const LinearSize& size : kSizes) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      for (const LinearOperator& linear : Linears(size, type)) {
        for (const int64_t rows : kRows) {
          INFO(linear.name << ", " << at::toString(type) << ", " << rows << " rows, n " << size.n
                           << ", k " << size.k);
          const at::Tensor x = at::randn({rows, size.k}).to(type);
          const Difference difference = Compare(linear.run(x), ProductInDouble(x, linear, true));
          INFO(difference.text);
          // f32 is compared to 1e-5, which the sums of ATen's own product exceed.
          CHECK(difference.largest <= (type == at::kFloat ? 20 : 1));
        }
      }
    }
  }
}

TEST_CASE("a row's product on CUDA is the same alone and among 31 others, bit by bit",
          "[cuda_linear]") {
  at::manual_seed(kSeed);
  for (const LinearSize& size : {LinearSize{130, 1000}, LinearSize{40, 264}}) {
    for (const at::ScalarType type : k16Bit) {
      for (const LinearOperator& linear : Linears(size, type)) {
        INFO(linear.name << ", " << at::toString(type));
        const at::Tensor x = at::randn({32, size.k}).to(type);
        const at::Tensor together = linear.run(x);
        for (const int64_t row : {0, 7, 8, 15, 16, 31}) {
          CHECK(at::equal(linear.run(x.narrow(0, row, 1)), together.narrow(0, row, 1)));
        }
      }
    }
  }
}

TEST_CASE("the CUDA linears compute the same bits in whatever order threads run", "[cuda_linear]") {
  at::manual_seed(kSeed);
  for (const LinearSize& size : {LinearSize{130, 2056}, LinearSize{16, 2064}}) {
    for (const at::ScalarType type : k16Bit) {
      for (const LinearOperator& linear : Linears(size, type)) {
        for (const int64_t rows : {3, 20, 33, 70}) {
          INFO(linear.name << ", " << at::toString(type) << ", " << rows << " rows");
          const at::Tensor x = at::randn({rows, size.k}).to(type);
          const at::Tensor forward = linear.run(x);
          SetScheduleBackward(true);
          const at::Tensor backward = linear.run(x);
          SetScheduleBackward(false);
          CHECK(at::equal(forward, backward));
        }
      }
    }
  }
}

// The device under test has so many processors while this lives.
class Processors {
 public:
  explicit Processors(int count) { host_cuda::host_processors = count; }
  ~Processors() { host_cuda::host_processors = 1; }
};

TEST_CASE("quantized linears of many rows agree with a product in double, however k is divided",
          "[cuda_linear]") {
  at::manual_seed(kSeed);
  for (const LinearSize& size : {LinearSize{130, 1000}, LinearSize{300, 520}, LinearSize{64, 72}}) {
    for (const at::ScalarType type : k16Bit) {
      for (const LinearOperator& linear : Linears(size, type)) {
        if (linear.name != "int8" && linear.name != "int4") continue;
        for (const int processors : {1, 132}) {
          const Processors chip(processors);
          for (const int64_t rows : {40, 64, 65, 128, 129}) {
            INFO(linear.name << ", " << at::toString(type) << ", " << rows << " rows, n " << size.n
                             << ", k " << size.k << ", " << processors << " processors");
            const at::Tensor x = at::randn({rows, size.k}).to(type);
            const Difference difference = Compare(linear.run(x), ProductInDouble(x, linear, true));
            INFO(difference.text);
            CHECK(difference.largest <= 1);
          }
        }
      }
    }
  }
}

TEST_CASE("a row's product on CUDA is the same among 33 others and among 127, bit by bit",
          "[cuda_linear]") {
  at::manual_seed(kSeed);
  const Processors chip(132);
  for (const LinearOperator& linear : Linears({130, 1000}, at::kBFloat16)) {
    if (linear.name != "int8" && linear.name != "int4") continue;
    const at::Tensor x = at::randn({128, 1000}).to(at::kBFloat16);
    const at::Tensor together = linear.run(x);
    CHECK(at::equal(linear.run(x.narrow(0, 90, 34)), together.narrow(0, 90, 34)));
    CHECK(at::equal(linear.run(x.narrow(0, 20, 70)), together.narrow(0, 20, 70)));
  }
}

// Shapes of few columns, whose k a chip of 132 processors divides in every form.
const LinearSize kDivided[] = {{130, 16384}, {64, 8 * 2048 + 136}};

TEST_CASE("few rows agree with a product in double where blocks divide k", "[cuda_linear]") {
  at::manual_seed(kSeed);
  for (const LinearSize& size : kDivided) {
    for (const at::ScalarType type : k16Bit) {
      for (const LinearOperator& linear : Linears(size, type)) {
        const at::Tensor x = at::randn({20, size.k}).to(type);
        const Processors chip(132);
        INFO(linear.name << ", " << at::toString(type) << ", n " << size.n << ", k " << size.k);
        const Difference difference = Compare(linear.run(x), ProductInDouble(x, linear, true));
        INFO(difference.text);
        CHECK(difference.largest <= 1);
      }
    }
  }
}

TEST_CASE(
    "a row's product is the same alone and among 31 others where blocks divide k, "
    "and in whatever order they run",
    "[cuda_linear]") {
  at::manual_seed(kSeed);
  const Processors chip(132);
  for (const LinearOperator& linear : Linears(kDivided[1], at::kBFloat16)) {
    INFO(linear.name);
    const at::Tensor x = at::randn({32, kDivided[1].k}).to(at::kBFloat16);
    const at::Tensor together = linear.run(x);
    for (const int64_t row : {0, 15, 31}) {
      CHECK(at::equal(linear.run(x.narrow(0, row, 1)), together.narrow(0, row, 1)));
    }
    SetScheduleBackward(true);
    const at::Tensor backward = linear.run(x);
    SetScheduleBackward(false);
    CHECK(at::equal(backward, together));
  }
}

TEST_CASE("sums that f32 holds exactly are the same bits however k is divided", "[cuda_linear]") {
  at::manual_seed(kSeed);
  const LinearSize size{70, 16384 + 24};
  const auto type = at::kBFloat16;
  const at::Tensor w = at::randint(-4, 5, {size.n, size.k}).to(type);
  const at::Tensor x = at::randint(-4, 5, {17, size.k}).to(type);
  const at::Tensor packed = Tiled(w, 2);
  const at::Tensor whole = HostCudaOperators().linear_packed(x, packed, size.n);
  for (const int processors : {2, 5, 13, 132, 1000}) {
    const Processors chip(processors);
    CHECK(at::equal(HostCudaOperators().linear_packed(x, packed, size.n), whole));
  }
}

// 2^24 + 1 − 2^24 is 0 in f32 from the left, and 1 from the right.
TEST_CASE("the parts of a divided k are added in its order", "[cuda_linear]") {
  constexpr int64_t kChunk = 32, kChunks = 512;  // numbers, of bf16
  const int processors = 20;
  const int splits =
      ChooseSkinnySplits({1, 32 * kChunk * kChunks * 2, kChunks, 0.55}, 8, processors);
  REQUIRE(splits >= 3);
  const int64_t share = (kChunks + splits - 1) / splits * kChunk;
  const at::Tensor x = at::zeros({1, kChunk * kChunks}, at::kBFloat16);
  x[0][3] = 0x1p24f;
  x[0][share + 5] = 1;
  x[0][2 * share + 7] = -0x1p24f;
  const at::Tensor ones = at::ones({32, kChunk * kChunks}, at::kBFloat16);
  const Processors chip(processors);
  const at::Tensor y = HostCudaOperators().linear_packed(x, Tiled(ones, 2), 32);
  CHECK(at::equal(y, at::zeros_like(y)));
}

TEST_CASE("k of few rows is divided where that gains more than the sums cost", "[cuda_linear]") {
  const auto splits = [](int64_t n, int64_t k, int bits, double busy, int processors) {
    const int64_t chunks = k * bits / 8 / 64;
    return ChooseSkinnySplits({(n + 31) / 32, n * k * bits / 8, chunks, busy}, 8, processors);
  };
  CHECK(splits(4096, 4096, 16, 0.55, 132) == 1);
  CHECK(splits(12288, 4096, 4, 1.5, 132) == 1);
  CHECK(splits(4096, 11008, 4, 1.5, 132) == 2);  // int4 of 128 blocks: half of what it can issue
  CHECK(splits(1024, 8192, 16, 0.55, 132) > 1);  // 32 blocks
  CHECK(splits(32, 256, 16, 0.55, 132) == 1);    // a block's warps have a chunk each
  CHECK(splits(64, 1 << 20, 16, 0.55, 132) == kMaxKSplits);
  CHECK(splits(64, 1 << 20, 16, 0.55, 1) == 1);
}

TEST_CASE("k is divided so that few columns occupy the device", "[cuda_linear]") {
  CHECK(ChooseKSplits(4096, 4096, 132) > 4);  // 16 blocks
  CHECK(ChooseKSplits(256 * 132, 4096, 132) == 1);
  CHECK(ChooseKSplits(4096, 256, 132) == 1);  // two groups: a block's share would be one
  for (const int64_t n : {4096, 8192, 12288, 22016, 44032}) {
    const int splits = ChooseKSplits(n, 8192, 132);
    const int64_t blocks = (n + 255) / 256 * splits;
    const int64_t waves = (blocks + 131) / 132;
    INFO(n << " columns, " << splits << " splits");
    CHECK(10 * blocks >= 6 * waves * 132);  // at least six tenths of the processors' time is used
  }
}

TEST_CASE("a weight too large to unpack at once is unpacked in parts", "[cuda_linear]") {
  at::manual_seed(kSeed);
  const LinearSize size{130, 1 << 17};  // f32: 32 MiB hold 64 columns
  const Quantized int8 = RandomInt8(size);
  const at::Tensor x = at::randn({1, size.k});
  const at::Tensor mine = HostCudaOperators().linear_int8(x, int8.weight, int8.scale, size.n);
  const at::Tensor w = DequantizeInt8(int8.weight, int8.scale, size.n, size.k);
  CHECK(at::allclose(mine, at::linear(x, w), 1e-4, 1e-2));
}

TEST_CASE("linear_packed and linear_int8 of CUDA take W itself as well", "[cuda_linear]") {
  at::manual_seed(kSeed);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor x = at::randn({2, 3, 40}).to(type);
    const at::Tensor w = at::randn({70, 40}).to(type);
    const at::Tensor mine = HostCudaOperators().linear_packed(x, w, 70);
    CHECK(at::equal(mine, at::linear(x, w)));
    const at::Tensor padded = at::cat({w, at::zeros({70, 1}, w.options())}, 1);
    CHECK(at::equal(HostCudaOperators().linear_packed(x, padded, 70), mine));
    CHECK(at::equal(HostCudaOperators().linear_int8(x, padded, at::ones({2, 64}), 70), mine));
  }
}

TEST_CASE("the CUDA linears take rows of any shape that do not lie one behind the other",
          "[cuda_linear]") {
  at::manual_seed(kSeed);
  for (const LinearOperator& linear : Linears({70, 40}, at::kBFloat16)) {
    const at::Tensor x = at::randn({3, 40, 2}).to(at::kBFloat16).transpose(1, 2);
    const at::Tensor y = linear.run(x);
    REQUIRE(y.sizes() == at::IntArrayRef({3, 2, 70}));
    CHECK(Compare(y.view({6, 70}), ProductInDouble(x.reshape({6, 40}), linear, true)).largest <= 1);
    CHECK(linear.run(x.narrow(0, 0, 0)).sizes() == at::IntArrayRef({0, 2, 70}));
  }
}

TEST_CASE("a weight of another shape is refused by the CUDA linears with a sentence",
          "[cuda_linear]") {
  const Operators cuda = HostCudaOperators();
  const at::Tensor x = at::zeros({2, 128}, at::kBFloat16);
  const Quantized int8 = RandomInt8({64, 128});
  const Quantized int4 = RandomInt4({64, 128});
  CHECK_THROWS_AS(cuda.linear_int8(x, int8.weight, int8.scale, 65), c10::Error);
  CHECK_THROWS_AS(cuda.linear_int8(at::zeros({2, 132}, at::kBFloat16), int8.weight, int8.scale, 64),
                  c10::Error);
  CHECK_THROWS_AS(cuda.linear_int4(x, int4.weight, int8.scale, 64), c10::Error);
  CHECK_THROWS_AS(cuda.linear_packed(x, at::zeros({1, 63, 64, 2}, at::kBFloat16), 64), c10::Error);
  CHECK_THROWS_AS(cuda.linear_packed(x, at::zeros({1, 64, 64, 2}, at::kHalf), 64), c10::Error);
  CHECK_THROWS_AS(cuda.linear_packed(x, at::zeros({65, 128}, at::kBFloat16), 64), c10::Error);
  const auto fp8 = [](at::IntArrayRef shape) {
    return at::zeros(shape, at::kByte).view(at::kFloat8_e4m3fn);
  };
  CHECK_THROWS_AS(cuda.linear_packed(x, fp8({1, 32, 64, 4}), 64), c10::Error);  // no scales
  CHECK_THROWS_AS(cuda.linear_packed(x, fp8({1, 33, 64, 4}), 65), c10::Error);
  CHECK_NOTHROW(cuda.linear_packed(x, fp8({1, 33, 64, 4}), 64));
}

// The chip under test multiplies no fp8 while this lives.
class OlderChip {
 public:
  OlderChip() { host_cuda::host_supports_fp8 = false; }
  ~OlderChip() { host_cuda::host_supports_fp8 = true; }
};

// Codes [n, k] as bytes, scale [n].
at::Tensor Fp8Weight(const at::Tensor& codes, const at::Tensor& scale) {
  const LinearLayout layout = LayoutOf(LinearForm::kFp8, codes.size(0), codes.size(1));
  const at::Tensor weight = at::zeros(layout.weight.sizes, at::kByte).view(at::kFloat8_e4m3fn);
  const at::Tensor rows = Fp8Rows(weight, codes.size(0), codes.size(1)).view(at::kByte);
  rows.copy_(codes);
  Fp8Scales(weight).narrow(0, 0, scale.numel()).copy_(scale);
  return weight;
}

TEST_CASE("every e4m3 number is exact in bf16 and f16, in few rows and in many", "[cuda_linear]") {
  at::Tensor codes = at::arange(256).to(at::kByte).view({8, 32});
  codes.masked_fill_(codes.bitwise_and(127) == 127, 0);  // no numbers
  const at::Tensor numbers = codes.view(at::kFloat8_e4m3fn).to(at::kDouble);
  for (const at::ScalarType type : k16Bit) {
    for (const bool older : {false, true}) {
      const auto chip = older ? std::make_unique<OlderChip>() : nullptr;
      for (const int64_t rows : {16, 32, 33}) {
        INFO(at::toString(type) << ", " << rows << " rows" << (older ? ", older" : ""));
        const at::Tensor weight = Fp8Weight(at::cat({codes, codes}), at::full({16}, 0.25));
        const at::Tensor y =
            HostCudaOperators().linear_packed(at::eye(rows, 32).to(type), weight, 16);
        const at::Tensor expected = at::eye(rows, 32).to(at::kDouble).mm(numbers.t()) * 0.25;
        CHECK(at::equal(y.to(at::kDouble), at::cat({expected, expected}, 1)));
      }
    }
  }
}

TEST_CASE("where the chip multiplies no fp8, W is unpacked for many rows", "[cuda_linear]") {
  at::manual_seed(kSeed);
  const OlderChip older;
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const std::vector<LinearOperator> linears = Linears({48, 208}, type);
    const at::Tensor x = at::randn({40, 208}).to(type);
    for (const LinearOperator& linear : linears) {
      INFO(linear.name << ", " << at::toString(type));
      CHECK(Compare(linear.run(x), ProductInDouble(x, linear, false)).largest <=
            (type == at::kFloat ? 20 : 1));
    }
  }
}

TEST_CASE("rows of zeros, of huge and of tiny numbers keep their sizes in fp8", "[cuda_linear]") {
  at::manual_seed(kSeed);
  for (const LinearOperator& linear : Linears({48, 528}, at::kBFloat16)) {
    if (!linear.fp8) continue;
    at::Tensor x = at::randn({35, 528});
    x[1] = 0;
    x[2] *= 1e30;
    x[3] *= 1e-30;
    x[4][520] = 1e37;  // of another warp; the others of its row vanish beside it
    x = x.to(at::kBFloat16);
    const at::Tensor y = linear.run(x).to(at::kDouble);
    const at::Tensor expected = at::matmul(RowsInFp8(x), linear.w.to(at::kDouble).t());
    CHECK(at::equal(y[1], at::zeros({48}, at::kDouble)));
    for (const int64_t row : {0, 2, 3, 4, 34}) {
      INFO("row " << row);
      CHECK(at::allclose(y[row], expected[row], 0x1p-8,
                         expected[row].abs().max().item<double>() / 256));
    }
    x[5][3] = std::numeric_limits<float>::quiet_NaN();
    CHECK(linear.run(x)[5].isnan().all().item<bool>());
  }
}

}  // namespace
}  // namespace idefics::test
