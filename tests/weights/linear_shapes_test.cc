// SPDX-License-Identifier: Apache-2.0
#include "weights/linear_shapes.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

#include "bundle_fixture.h"

namespace idefics {
namespace {

// Width 64, MLP 96, 4 layers in 2 groups, vocabulary 323, bf16; `k` of "down" changed to 130.
BundleManifest Manifest(const char* quantization, const char* dtype = "bf16") {
  testing::Json json = testing::ValidManifest();
  json["quantization"] = quantization;
  json["vision_quantization"] = std::string(quantization) == "none" ? "none" : "int8";
  json["dtype"] = dtype;
  json["model"]["intermediate_size"] = 130;
  return ParseManifest(json.dump()).value();
}

using Shape = std::vector<int64_t>;

const ExpectedTensor& Find(const std::vector<ExpectedTensor>& tensors, const std::string& name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const ExpectedTensor& t) { return t.name == name; });
  REQUIRE(found != tensors.end());
  return *found;
}

constexpr const char* kDown = "decoder.groups.1.layers.0.down.weight";
constexpr const char* kDownScale = "decoder.groups.1.layers.0.down.scale";

TEST_CASE("every linear of the decoder has the shape of its width", "[linears]") {
  const auto plain = DecoderLinears(Manifest("none"));
  CHECK(plain.size() == 2 * 4 + 4 * 4 + 1);
  CHECK(Find(plain, kDown).dtype == DType::kBF16);
  CHECK(Find(plain, kDown).shape == Shape{1, 65, 64, 2});
  CHECK(Find(plain, "decoder.groups.0.cross.gate_up.weight").shape == Shape{5, 32, 64, 2});
  CHECK(Find(plain, "decoder.groups.0.layers.1.qkv.weight").shape == Shape{3, 32, 64, 2});
  CHECK(Find(DecoderLinears(Manifest("none", "f32")), kDown).shape == Shape{1, 130, 64});

  const auto int8 = DecoderLinears(Manifest("int8"));
  CHECK(int8.size() == 2 * (2 * 4 + 4 * 4) + 1);
  CHECK(Find(int8, kDown).dtype == DType::kU8);
  CHECK(Find(int8, kDown).shape == Shape{1, 33, 64, 4});
  CHECK(Find(int8, kDownScale).dtype == DType::kF32);
  CHECK(Find(int8, kDownScale).shape == Shape{1, 64});

  const auto int4 = DecoderLinears(Manifest("int4"));
  CHECK(Find(int4, kDown).shape == Shape{1, 17, 64, 4});
  CHECK(Find(int4, kDownScale).dtype == DType::kBF16);
  CHECK(Find(int4, kDownScale).shape == Shape{1, 2, 2, 64});
}

TEST_CASE("linears that are named have 8 bits, whatever the width of the others", "[linears]") {
  BundleManifest manifest = Manifest("int4");
  manifest.int8_linears = {"decoder.groups.1.layers.0.down", "decoder.lm_head"};
  const auto tensors = DecoderLinears(manifest);
  CHECK(tensors.size() == 2 * (2 * 4 + 4 * 4 + 1));
  CHECK(Find(tensors, kDown).shape == Shape{1, 33, 64, 4});
  CHECK(Find(tensors, kDownScale).shape == Shape{1, 64});
  CHECK(Find(tensors, "decoder.lm_head.weight").shape == Shape{6, 16, 64, 4});
  CHECK(Find(tensors, "decoder.lm_head.scale").shape == Shape{6, 64});
  CHECK(Find(tensors, "decoder.groups.0.layers.0.down.weight").shape == Shape{1, 17, 64, 4});
}

TEST_CASE("the head is not quantized where it is not named, and ends within a tile", "[linears]") {
  for (const char* quantization : {"none", "int8", "int4"}) {
    const auto tensors = DecoderLinears(Manifest(quantization));
    CHECK(Find(tensors, "decoder.lm_head.weight").dtype == DType::kBF16);
    CHECK(Find(tensors, "decoder.lm_head.weight").shape == Shape{6, 32, 64, 2});
  }
}

// Width 32, MLP 48, 2 layers, patches of 14 · 14 · 3; perceiver: 2 blocks, 2 heads of 24.
TEST_CASE("every linear that looks at pictures has the shape of its width", "[linears]") {
  const auto plain = VisionLinears(Manifest("none"));
  CHECK(plain.size() == 1 + 2 * 4 + 2 * 5 + 2);
  CHECK(Find(plain, "vision.patch_embedding.weight").shape == Shape{1, 294, 64, 2});
  CHECK(Find(plain, "vision.layers.1.qkv.weight").shape == Shape{2, 16, 64, 2});
  CHECK(Find(plain, "vision.blocks.0.kv.weight").shape == Shape{2, 16, 64, 2});
  const auto int8 = VisionLinears(Manifest("int4"));
  CHECK(int8.size() == 1 + 2 * (2 * 4 + 2 * 5 + 2));
  CHECK(Find(int8, "vision.patch_embedding.weight").dtype == DType::kBF16);
  CHECK(Find(int8, "vision.layers.0.fc2.weight").dtype == DType::kU8);
  CHECK(Find(int8, "vision.layers.0.fc2.weight").shape == Shape{1, 12, 64, 4});
  CHECK(Find(int8, "vision.blocks.1.out.weight").shape == Shape{1, 12, 64, 4});
  CHECK(Find(int8, "vision.cross.1.kv.scale").shape == Shape{2, 64});
}

TEST_CASE("a linear of another shape or type is refused with both", "[linears]") {
  const BundleManifest manifest = Manifest("int8");
  std::vector<TensorView> tensors(1);
  tensors[0].name = kDown;
  tensors[0].dtype = DType::kU8;
  tensors[0].shape = {1, 33, 64, 4};
  CHECK(CheckLinears(manifest, tensors).ok());
  tensors[0].shape = {1, 32, 64, 4};
  CHECK(CheckLinears(manifest, tensors).message() ==
        std::string("tensor ") + kDown +
            " is u8 [1, 32, 64, 4], bundle.json makes it u8 [1, 33, 64, 4]: export the checkpoint "
            "again");
  tensors[0].shape = {1, 33, 64, 4};
  tensors[0].dtype = DType::kI8;
  CHECK_FALSE(CheckLinears(manifest, tensors).ok());
  tensors[0].name = "vision.layers.0.fc1.weight";
  CHECK_FALSE(CheckLinears(manifest, tensors).ok());
}

}  // namespace
}  // namespace idefics
