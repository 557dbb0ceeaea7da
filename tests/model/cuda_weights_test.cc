// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/cuda_weights.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>

#include "predictor/ops/packed_weight.h"
#include "tests/model/packed_linears.h"

namespace idefics::test {
namespace {

// As a scripted linear of scripts/export/linears.py; scale: undefined without quantization.
torch::jit::Module Linear(int64_t n, const at::Tensor& weight, const at::Tensor& scale) {
  torch::jit::Module linear("Linear", std::make_shared<torch::jit::CompilationUnit>());
  linear.type()->addConstant("n", n);
  linear.register_parameter("weight", weight, false);
  if (scale.defined()) linear.register_parameter("scale", scale, false);
  return linear;
}

TEST_CASE("unpacked weights are W, and only packed ones change", "[cuda_weights]") {
  torch::jit::Module layer("Layer"), decoder("Decoder");
  const at::Tensor f32 = at::randn({70, 40});
  const at::Tensor bf16 = at::randn({130, 33}).to(at::kBFloat16);
  const at::Tensor norm = at::randn({5});
  const Quantized int8 = RandomInt8({70, 40});
  layer.register_module("qkv", Linear(70, Tiled(f32, 1).squeeze(3), {}));
  layer.register_module("down", Linear(70, int8.weight, int8.scale));
  layer.register_parameter("norm", norm, false);
  decoder.register_module("layer", layer);
  decoder.register_module("lm_head", Linear(130, Tiled(bf16, 2), {}));
  UnpackWeights(decoder);
  CHECK(at::equal(layer.attr("qkv").toModule().attr("weight").toTensor(), f32));
  CHECK(at::equal(layer.attr("down").toModule().attr("weight").toTensor(), int8.weight));
  CHECK(at::equal(layer.attr("norm").toTensor(), norm));
  const at::Tensor head = decoder.attr("lm_head").toModule().attr("weight").toTensor();
  CHECK(at::equal(head.narrow(1, 0, 33), bf16));
  CHECK(head.size(1) == 34);
}

at::Tensor WeightOf(const torch::jit::Module& linear) { return linear.attr("weight").toTensor(); }

TEST_CASE("dequantized weights are W in the type asked for, and only int8 ones change",
          "[cuda_weights]") {
  torch::jit::Module layer("Layer");
  const Quantized int8 = RandomInt8({70, 38});
  const at::Tensor packed = Tiled(at::randn({70, 40}), 1).squeeze(3);
  layer.register_module("fc1", Linear(70, int8.weight, int8.scale));
  layer.register_module("patches", Linear(70, packed, {}));
  DequantizeWeights(layer, at::kBFloat16);
  const at::Tensor w = WeightOf(layer.attr("fc1").toModule());
  CHECK(at::equal(w.narrow(1, 0, 38),
                  DequantizeInt8(int8.weight, int8.scale, 70, 38).to(at::kBFloat16)));
  CHECK(w.sizes() == at::IntArrayRef{70, 40});
  CHECK(at::equal(WeightOf(layer.attr("patches").toModule()), packed));
}

TEST_CASE("fp8 takes the decoder's unquantized linears but lm_head", "[cuda_weights]") {
  torch::jit::Module layer("Layer"), decoder("Decoder");
  const at::Tensor qkv = Tiled(at::randn({70, 40}).to(at::kBFloat16), 2);
  const at::Tensor head = at::randn({130, 34}).to(at::kBFloat16);
  const Quantized int8 = RandomInt8({70, 40});
  layer.register_module("qkv", Linear(70, qkv, {}));
  layer.register_module("down", Linear(70, int8.weight, int8.scale));
  decoder.register_module("layer", layer);
  decoder.register_module("lm_head", Linear(130, Tiled(head, 2), {}));
  QuantizeWeightsToFp8(decoder, [](const std::string&) { return at::kCPU; });
  UnpackWeights(decoder);
  CHECK(at::equal(WeightOf(layer.attr("qkv").toModule()).view(at::kByte),
                  QuantizeToFp8(qkv).view(at::kByte)));
  CHECK(at::equal(WeightOf(layer.attr("down").toModule()), int8.weight));
  CHECK(at::equal(WeightOf(decoder.attr("lm_head").toModule()), head));
}

TEST_CASE("every parameter moves to its device, in fp8 or not", "[cuda_weights]") {
  torch::jit::Module decoder("Decoder");
  const Quantized int8 = RandomInt8({70, 40});
  decoder.register_module("qkv", Linear(70, Tiled(at::randn({70, 40}), 1).squeeze(3), {}));
  decoder.register_module("down", Linear(70, int8.weight, int8.scale));
  decoder.register_parameter("norm", at::randn({5}), false);
  QuantizeWeightsToFp8(
      decoder, [](const std::string& path) { return path == "qkv.weight" ? at::kCPU : at::kMeta; });
  for (const auto& parameter : decoder.named_parameters()) {
    INFO(parameter.name);
    CHECK(parameter.value.is_meta() == (parameter.name != "qkv.weight"));
  }
  CHECK(IsFp8(WeightOf(decoder.attr("qkv").toModule())));
}

// What an fp8 weight of W [n, k] should hold, number by number.
at::Tensor NearestFp8(const at::Tensor& w) {
  at::Tensor nearest = w.to(at::kFloat).clone();
  for (int64_t column = 0; column < w.size(0); ++column) {
    auto* const row = nearest.data_ptr<float>() + column * w.size(1);
    float largest = 0;
    for (int64_t i = 0; i < w.size(1); ++i) largest = std::max(largest, std::abs(row[i]));
    const float scale = largest == 0 ? 1 : largest / 448;
    for (int64_t i = 0; i < w.size(1); ++i) {
      const float value = std::clamp(row[i] / scale, -448.0f, 448.0f);
      row[i] = static_cast<float>(c10::Float8_e4m3fn(value)) * scale;
    }
  }
  return nearest;
}

TEST_CASE("fp8 weights are the nearest e4m3 of each column's range", "[cuda_weights]") {
  at::manual_seed(20261122);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const LinearSize& size :
         {LinearSize{70, 40}, {1, 1}, {130, 33}, {65, 3}, {128, 1 << 16}}) {
      INFO(at::toString(type) << ", n " << size.n << ", k " << size.k);
      at::Tensor w = at::randn({size.n, size.k});
      w[size.n - 1] *= type == at::kHalf ? 1e4 : 1e37;
      w[size.n / 2] = 0;
      w = w.to(type);
      const at::Tensor fp8 =
          QuantizeToFp8(type == at::kFloat ? Tiled(w, 1).squeeze(3) : Tiled(w, 2));
      CHECK(at::equal(DequantizeFp8(fp8, size.n, size.k), NearestFp8(w)));
      CHECK(Fp8Scales(fp8).flatten()[size.n / 2].item<float>() == 1.0f);
    }
  }
}

TEST_CASE("a number that is not finite spoils its column of fp8 only", "[cuda_weights]") {
  for (const float number : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    at::Tensor w = at::ones({3, 8});
    w[1][2] = number;
    const at::Tensor back = DequantizeFp8(QuantizeToFp8(Tiled(w, 1).squeeze(3)), 3, 8);
    CHECK(!at::isfinite(back.sum(1))[1].item<bool>());
    CHECK(at::equal(back[2], at::ones({8})));
  }
}

TEST_CASE("the CPU multiplies by fp8 weights too", "[cuda_weights]") {
  at::manual_seed(20261122);
  const at::Tensor fp8 = QuantizeToFp8(Tiled(at::randn({70, 40}), 1).squeeze(3));
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const at::Tensor x = at::randn({3, 40}).to(type);
    const at::Tensor w = DequantizeFp8(fp8, 70, 40).to(type);
    CHECK(at::equal(RegisteredOperators().linear_packed(x, fp8, 70), at::linear(x, w)));
    CHECK_THROWS_AS(RegisteredOperators().linear_packed(x, fp8, 64), c10::Error);
    CHECK_THROWS_AS(RegisteredOperators().linear_packed(x.narrow(1, 0, 32), fp8, 70), c10::Error);
  }
}

}  // namespace
}  // namespace idefics::test
