// SPDX-License-Identifier: Apache-2.0
#include "weights/layer_split.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <numeric>

namespace idefics {
namespace {

using Catch::Matchers::ContainsSubstring;

ModelConfig Model(int64_t layers, int64_t interval) {
  ModelConfig model;
  model.num_layers = layers;
  model.cross_layer_interval = interval;
  return model;
}

TensorView Tensor(const std::string& name, size_t bytes) {
  TensorView view;
  view.name = name;
  view.bytes = std::span<const uint8_t>(static_cast<const uint8_t*>(nullptr), bytes);
  return view;
}

// A model's tensors, one of each kind: a layer has 10 bytes, a cross layer 8.
std::vector<TensorView> Tensors(const ModelConfig& model, size_t vision, size_t head) {
  std::vector<TensorView> all = {Tensor("vision.layers.1.qkv.weight", vision),
                                 Tensor("decoder.embed", 1), Tensor("decoder.norm", 1),
                                 Tensor("decoder.lm_head.weight", head)};
  for (int64_t group = 0; group < model.num_cross_layers(); ++group) {
    const std::string path = "decoder.groups." + std::to_string(group);
    all.push_back(Tensor(path + ".cross.q.weight", 8));
    for (int64_t i = 0; i < model.cross_layer_interval; ++i) {
      all.push_back(Tensor(path + ".layers." + std::to_string(i) + ".qkv.weight", 10));
    }
  }
  return all;
}

std::vector<Run> Layers(const ModelConfig& model, const std::vector<TensorView>& tensors,
                        int stages) {
  return LayerSplit::Make(model, tensors, stages).value().layers();
}

TEST_CASE("layers are divided so that bytes are as even as whole layers allow", "[layer_split]") {
  const ModelConfig model = Model(80, 4);
  for (const size_t vision : {0, 40, 300}) {
    for (int stages = 1; stages <= 9; ++stages) {
      CAPTURE(vision, stages);
      const auto tensors = Tensors(model, vision, 16);
      const LayerSplit split = LayerSplit::Make(model, tensors, stages).value();
      std::vector<int64_t> bytes(static_cast<size_t>(stages));
      for (const TensorView& tensor : tensors) {
        bytes[static_cast<size_t>(split.StageOf(tensor.name))] +=
            static_cast<int64_t>(tensor.bytes.size());
      }
      const auto [least, most] = std::ranges::minmax(bytes);
      // The first may have more than its share where vision alone has.
      const bool first_is_full = split.layers().front().count == 1;
      const int64_t rest = *std::max_element(bytes.begin() + (first_is_full ? 1 : 0), bytes.end());
      CHECK((stages == 1 || rest - least <= 18));
      CHECK((first_is_full || most == rest));
    }
  }
}

TEST_CASE("what stands before and behind the layers is on the first and the last device",
          "[layer_split]") {
  const ModelConfig model = Model(8, 4);
  const auto tensors = Tensors(model, 20, 20);
  const LayerSplit split = LayerSplit::Make(model, tensors, 3).value();
  CHECK(split.layers() == std::vector<Run>{{0, 2}, {2, 4}, {6, 2}});
  for (const char* name :
       {"vision.layers.1.qkv.weight", "vision.cross.1.kv.weight", "decoder.embed",
        "decoder.groups.0.cross.q.weight", "decoder.groups.0.layers.1.o.weight"}) {
    CHECK(split.StageOf(name) == 0);
  }
  CHECK(split.StageOf("decoder.groups.0.layers.2.o.weight") == 1);
  CHECK(split.StageOf("decoder.groups.1.cross.q.weight") == 1);
  CHECK(split.StageOf("decoder.groups.1.layers.1.o.weight") == 1);
  for (const char* name :
       {"decoder.groups.1.layers.2.o.weight", "decoder.norm", "decoder.lm_head.weight"}) {
    CHECK(split.StageOf(name) == 2);
  }
}

TEST_CASE("a cross layer and its caches are where its decoder layer is", "[layer_split]") {
  const ModelConfig model = Model(8, 4);
  const LayerSplit split = LayerSplit::Make(model, Tensors(model, 20, 20), 3).value();
  CHECK(split.CrossLayersOf(0) == Run{0, 1});
  CHECK(split.CrossLayersOf(1) == Run{1, 1});
  CHECK(split.CrossLayersOf(2) == Run{2, 0});
  CHECK(split.PartOfLayers(800, 1) == 400);
  CHECK(split.PartOfCrossLayers(600, 1) == 300);
  CHECK(split.PartOfCrossLayers(600, 2) == 0);
}

TEST_CASE("every device has a layer, and there are no more devices than layers", "[layer_split]") {
  const ModelConfig model = Model(4, 1);
  const auto tensors = Tensors(model, 1000, 1000);
  CHECK(Layers(model, tensors, 4) == std::vector<Run>{{0, 1}, {1, 1}, {2, 1}, {3, 1}});
  CHECK(Layers(model, tensors, 1) == std::vector<Run>{{0, 4}});
  CHECK(LayerSplit(model).layers() == std::vector<Run>{{0, 4}});
  CHECK_THAT(LayerSplit::Make(model, tensors, 5).status().message(),
             ContainsSubstring("--device names 5 devices, and the model has 4 layers"));
}

TEST_CASE("tensors that the model does not have are somewhere", "[layer_split]") {
  const ModelConfig model = Model(4, 2);
  auto tensors = Tensors(model, 1, 1);
  for (const char* name : {"decoder.groups.-3.cross.q.weight", "decoder.groups.7.layers.9.o",
                           "decoder.groups.99999999999999999999.cross.q", "other"}) {
    tensors.push_back(Tensor(name, 5));
  }
  const LayerSplit split = LayerSplit::Make(model, tensors, 2).value();
  for (const TensorView& tensor : tensors) {
    CHECK(split.StageOf(tensor.name) >= 0);
    CHECK(split.StageOf(tensor.name) < 2);
  }
}

}  // namespace
}  // namespace idefics
