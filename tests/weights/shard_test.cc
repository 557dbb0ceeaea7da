// SPDX-License-Identifier: Apache-2.0
#include "weights/shard.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "bundle_fixture.h"
#include "weights/linear_shapes.h"

namespace idefics {
namespace {

using Catch::Matchers::ContainsSubstring;

// A decoder of the 9b's or the 80b's sizes, but for its number of layers.
BundleManifest Manifest(int64_t heads, int64_t mlp, const char* quantization) {
  testing::Json json = testing::ValidManifest();
  json["quantization"] = quantization;
  json["model"]["num_heads"] = heads;
  json["model"]["hidden_size"] = heads * 128;
  json["model"]["intermediate_size"] = mlp;
  return ParseManifest(json.dump()).value();
}

BundleManifest Of80b(const char* quantization) { return Manifest(64, 22016, quantization); }

// All linears of the manifest without their numbers; sizes of the type's.
std::vector<TensorView> Tensors(const BundleManifest& manifest) {
  std::vector<TensorView> views;
  auto linears = DecoderLinears(manifest);
  for (auto& linear : VisionLinears(manifest)) linears.push_back(linear);
  for (const ExpectedTensor& tensor : linears) {
    size_t bytes = tensor.dtype == DType::kU8 ? 1 : tensor.dtype == DType::kF32 ? 4 : 2;
    for (const int64_t size : tensor.shape) bytes *= static_cast<size_t>(size);
    TensorView view;
    view.name = tensor.name;
    view.dtype = tensor.dtype;
    view.shape = tensor.shape;
    view.bytes = std::span<const uint8_t>(static_cast<const uint8_t*>(nullptr), bytes);
    views.push_back(view);
  }
  return views;
}

TEST_CASE("ranks get neighbouring units, none more than one more than another", "[shard]") {
  for (int count = 1; count <= 9; ++count) {
    int64_t next = 0;
    for (int index = 0; index < count; ++index) {
      const Run run = ShareOf(43, {index, count});
      CHECK(run.begin == next);
      CHECK((run.count == 43 / count || run.count == 43 / count + 1));
      next += run.count;
    }
    CHECK(next == 43);
  }
}

TEST_CASE("each linear is divided where its numbers are independent of the others", "[shard]") {
  const BundleManifest manifest = Of80b("none");
  const Rank last{7, 8};
  const auto of = [&](const char* linear) { return ShardOf(manifest, linear, last); };
  const int64_t h = 8192;
  CHECK(of("decoder.groups.0.layers.1.qkv").columns ==
        std::vector<Run>{{7168, 1024}, {h + 7168, 1024}, {2 * h + 7168, 1024}});
  CHECK(of("decoder.groups.0.layers.1.o").inputs == Run{7168, 1024});
  CHECK(of("decoder.groups.0.cross.q").columns == std::vector<Run>{{7168, 1024}});
  CHECK(of("vision.cross.1.kv").columns == std::vector<Run>{{7168, 1024}, {h + 7168, 1024}});
  // 172 units of 128: the first four ranks have 22, the others 21.
  CHECK(of("decoder.groups.0.layers.0.down").inputs == Run{151 * 128, 21 * 128});
  CHECK(ShardOf(manifest, "decoder.groups.0.layers.0.down", {0, 8}).inputs == Run{0, 22 * 128});
  CHECK(of("decoder.groups.0.cross.gate_up").columns ==
        std::vector<Run>{{151 * 128, 21 * 128}, {22016 + 151 * 128, 21 * 128}});
  for (const char* whole : {"decoder.lm_head", "decoder", "decoder.groups.0.cross",
                            "vision.layers.0.qkv", "vision.blocks.1.q", "vision.cross.1"}) {
    CAPTURE(whole);
    CHECK(of(whole).whole());
  }
}

TEST_CASE("the ranks' parts hold every weight once, but those that are whole on each", "[shard]") {
  for (const char* quantization : {"none", "int8", "int4"}) {
    const BundleManifest manifest = Of80b(quantization);
    const std::vector<TensorView> tensors = Tensors(manifest);
    uint64_t all = 0;
    uint64_t whole = 0;  // bytes that every rank has
    for (const TensorView& tensor : tensors) {
      all += tensor.bytes.size();
      if (ShardShape(manifest, tensor, {1, 8}) == tensor.shape) whole += tensor.bytes.size();
    }
    CHECK(ShardBytes(manifest, tensors, {}) == all);
    for (const int ranks : {2, 3, 4, 8}) {
      REQUIRE(CheckRanks(manifest, ranks).ok());
      uint64_t sum = 0;
      for (int index = 0; index < ranks; ++index) {
        sum += ShardBytes(manifest, tensors, {index, ranks});
      }
      CHECK(sum == all + static_cast<uint64_t>(ranks - 1) * whole);
    }
  }
}

TEST_CASE("a model that is too small or would be cut through a group is refused", "[shard]") {
  CHECK_THAT(CheckRanks(Of80b("none"), 65).message(), ContainsSubstring("it has 64 heads"));
  CHECK_THAT(CheckRanks(Manifest(64, 64, "none"), 16).message(),
             ContainsSubstring("its MLPs are 64 numbers wide"));
  // 24 · 2 inputs of an MLP of 48 are no group of 128.
  CHECK(CheckRanks(Manifest(4, 64, "int8"), 2).ok());
  CHECK_THAT(CheckRanks(Manifest(4, 64, "int4"), 2).message(),
             ContainsSubstring("between groups of 128 inputs, and this cut is at 32"));
  CHECK(CheckRanks(Manifest(4, 64, "int4"), 1).ok());
}

}  // namespace
}  // namespace idefics
