// SPDX-License-Identifier: Apache-2.0
// The packed linears on the device: against products in double, and their times at the 9b shapes.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "predictor/model/cuda_weights.h"
#include "predictor/ops/packed_weight.h"
#include "tests/gpu/gpu_checks.h"
#include "tests/model/operators.h"
#include "tests/model/packed_linears.h"

namespace idefics::test {
namespace {

constexpr uint64_t kSeed = 20261122;

struct NamedSize {
  const char* name;
  LinearSize size;
};
const NamedSize k9b[] = {{"qkv", {12288, 4096}},
                         {"o, cross q, cross o", {4096, 4096}},
                         {"gate_up", {22016, 4096}},
                         {"down", {4096, 11008}},
                         {"lm_head", {32002, 4096}}};

std::vector<LinearOperator> Linears(const LinearSize& size, at::ScalarType type) {
  return LinearOperators(RegisteredOperators(), size, type, at::kCUDA);
}

void CompareLinear(const LinearOperator& linear, const LinearSize& size, at::ScalarType type) {
  const std::string where = linear.name + ", " + at::toString(type) + ", n " +
                            std::to_string(size.n) + ", k " + std::to_string(size.k);
  for (const int64_t rows : {1, 2, 8, 9, 16, 17, 32, 33, 64, 100, 128, 129}) {
    const at::Tensor x = at::randn({rows, size.k})
                             .div(std::sqrt(static_cast<double>(size.k)))
                             .to(type)
                             .to(at::kCUDA);
    const std::string what = where + ", " + std::to_string(rows) + " rows";
    const at::Tensor mine = linear.run(x);
    // cuBLAS may add parts of a sum that were rounded to 16 bit.
    ExpectClose(what, mine, ProductInDouble(x, linear, DeviceSupportsFp8(at::kCUDA)),
                rows > 32 ? 4 : 1);
    if (rows > 32) continue;
    ExpectEqual(what + ", again", linear.run(x), mine);
    ExpectEqual(what + ", the last row alone", linear.run(x.narrow(0, rows - 1, 1)),
                mine.narrow(0, rows - 1, 1));
  }
}

// Captured on some numbers, replayed on others.
void CompareGraph(const LinearOperator& linear, int64_t k, int64_t rows) {
  const at::Tensor x = at::randn({rows, k}).to(at::kBFloat16).to(at::kCUDA);
  const c10::cuda::CUDAStreamGuard stream(c10::cuda::getStreamFromPool());
  linear.run(x);
  at::cuda::getCurrentCUDAStream().synchronize();
  at::cuda::CUDAGraph graph;
  graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
  const at::Tensor mine = linear.run(x);
  graph.capture_end();
  x.copy_(at::randn({rows, k}));
  graph.replay();
  at::cuda::getCurrentCUDAStream().synchronize();
  ExpectEqual("graph of " + linear.name + ", " + std::to_string(rows) + " rows", mine,
              linear.run(x));
}

// Runs linear(x, copy of the weights) over so many copies that none is still in the L2 cache.
void TimeLinear(const char* name, int64_t rows, int64_t bytes, int copies,
                const std::function<void(int)>& run) {
  const double us = Microseconds(copies, run);
  const double rate = static_cast<double>(bytes) / us / 1000;
  std::printf("    %-7s M=%-3ld %8.1f us %6.0f GB/s  %3.0f %% of reading\n", name,
              static_cast<long>(rows), us, rate, 100 * rate / ReadBandwidth());
}

template <typename Make>
std::vector<at::Tensor> Copies(int64_t bytes, const Make& make) {
  const int64_t count = std::clamp<int64_t>((int64_t{512} << 20) / bytes + 1, 2, 64);
  std::vector<at::Tensor> copies;
  for (int64_t i = 0; i < count; ++i) copies.push_back(make());
  return copies;
}

void TimeQuantized(const LinearSize& size) {
  const Operators cuda = RegisteredOperators();
  const auto device = at::TensorOptions(at::kCUDA);
  const auto bytes_of = [](const at::Tensor& t) { return t.numel() * t.element_size(); };
  const int64_t tiles = (size.n + 63) / 64;
  const auto random = [&](at::IntArrayRef shape) {
    return at::randint(0, 256, shape, device.dtype(at::kByte));
  };
  const auto int8 = Copies(tiles * size.k * 64, [&] { return random({tiles, size.k / 4, 64, 4}); });
  const auto int4 = Copies(tiles * size.k * 32, [&] { return random({tiles, size.k / 8, 64, 4}); });
  const auto fp8 = Copies(tiles * size.k * 64, [&] {
    return QuantizeToFp8(at::randn({tiles, size.k / 2, 64, 2}, device.dtype(at::kBFloat16)));
  });
  const at::Tensor scale8 = at::rand({tiles, 64}, device) * 0.01;
  const at::Tensor scale4 =
      (at::rand({tiles, size.k / 128, 2, 64}, device) * 0.01).to(at::kBFloat16);
  for (const int64_t rows : {1, 8, 16, 32, 64, 512}) {
    const at::Tensor x = at::randn({rows, size.k}, device.dtype(at::kBFloat16));
    TimeLinear("int8", rows, bytes_of(int8[0]) + bytes_of(scale8), static_cast<int>(int8.size()),
               [&](int i) { cuda.linear_int8(x, int8[i], scale8, size.n); });
    TimeLinear("fp8", rows, bytes_of(fp8[0]), static_cast<int>(fp8.size()),
               [&](int i) { cuda.linear_packed(x, fp8[i], size.n); });
    TimeLinear("int4", rows, bytes_of(int4[0]) + bytes_of(scale4), static_cast<int>(int4.size()),
               [&](int i) { cuda.linear_int4(x, int4[i], scale4, size.n); });
  }
}

// cuBLAS on W, and our kernel on packed words: which of the two should cuda_weights.cc choose?
void TimeUnquantized(const LinearSize& size) {
  const Operators cuda = RegisteredOperators();
  const auto device = at::TensorOptions(at::kCUDA).dtype(at::kBFloat16);
  const int64_t tiles = (size.n + 63) / 64;
  const int64_t bytes = tiles * 64 * size.k * 2;
  const auto packed = Copies(bytes, [&] { return at::randn({tiles, size.k / 2, 64, 2}, device); });
  for (const int64_t rows : {1, 8, 16, 32, 64, 512}) {
    const at::Tensor x = at::randn({rows, size.k}, device);
    TimeLinear("cuBLAS", rows, bytes, static_cast<int>(packed.size()), [&](int i) {
      at::linear(x, packed[i].view({tiles * 64, size.k}).narrow(0, 0, size.n));
    });
    if (rows > 32) continue;
    TimeLinear("packed", rows, bytes, static_cast<int>(packed.size()),
               [&](int i) { cuda.linear_packed(x, packed[i], size.n); });
  }
}

}  // namespace

void CompareLinears() {
  at::manual_seed(kSeed);
  for (const LinearSize& size : std::vector<LinearSize>{{64, 128},
                                                        {70, 33},
                                                        {1, 1},
                                                        {130, 1000},
                                                        {200, 516},
                                                        {4096, 4096},
                                                        {4096, 11008},
                                                        {32002, 4096}}) {
    for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
      for (const LinearOperator& linear : Linears(size, type)) CompareLinear(linear, size, type);
    }
  }
  for (const LinearSize& size : {LinearSize{130, 1000}, LinearSize{144, 1008}}) {
    for (const LinearOperator& linear : Linears(size, at::kBFloat16)) {
      for (const int64_t rows : {1, 32, 33}) CompareGraph(linear, size.k, rows);
    }
  }
}

void TimeLinears() {
  for (const NamedSize& named : k9b) {
    std::printf("%s: [%ld, %ld]\n", named.name, static_cast<long>(named.size.n),
                static_cast<long>(named.size.k));
    TimeUnquantized(named.size);
    TimeQuantized(named.size);
  }
}

}  // namespace idefics::test
