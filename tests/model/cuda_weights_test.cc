// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/cuda_weights.h"

#include <catch2/catch_test_macros.hpp>

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

}  // namespace
}  // namespace idefics::test
