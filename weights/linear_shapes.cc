// SPDX-License-Identifier: Apache-2.0
#include "weights/linear_shapes.h"

#include <unordered_map>

namespace idefics {
namespace {

constexpr int64_t kTile = 64;    // columns
constexpr int64_t kGroup = 128;  // values of a column that share an int4 scale

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

std::string Describe(DType dtype, const std::vector<int64_t>& shape) {
  std::string text = std::string(DTypeName(dtype)) + " [";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  }
  return text + "]";
}

// One linear, W [n, k], appended.
void AddLinear(const std::string& name, int64_t n, int64_t k, DType dtype,
               const std::string& quantization, std::vector<ExpectedTensor>* tensors) {
  const int64_t tiles = CeilDiv(n, kTile);
  if (quantization == "int8") {
    tensors->push_back({name + ".weight", DType::kU8, {tiles, CeilDiv(k, 4), kTile, 4}});
    tensors->push_back({name + ".scale", DType::kF32, {tiles, kTile}});
  } else if (quantization == "int4") {
    tensors->push_back({name + ".weight", DType::kU8, {tiles, CeilDiv(k, 8), kTile, 4}});
    tensors->push_back({name + ".scale", DType::kBF16, {tiles, CeilDiv(k, kGroup), 2, kTile}});
  } else if (dtype == DType::kF32) {
    tensors->push_back({name + ".weight", dtype, {tiles, k, kTile}});
  } else {
    tensors->push_back({name + ".weight", dtype, {tiles, CeilDiv(k, 2), kTile, 2}});
  }
}

}  // namespace

std::vector<ExpectedTensor> DecoderLinears(const BundleManifest& manifest) {
  const ModelConfig& model = manifest.model;
  const int64_t h = model.hidden_size;
  const int64_t f = model.intermediate_size;
  std::vector<ExpectedTensor> tensors;
  const auto add = [&](const std::string& name, int64_t n, int64_t k) {
    AddLinear(name, n, k, manifest.dtype, manifest.quantization, &tensors);
  };
  const auto add_mlp = [&](const std::string& layer) {
    add(layer + ".gate_up", 2 * f, h);
    add(layer + ".down", h, f);
  };
  for (int64_t g = 0; g < model.num_cross_layers(); ++g) {
    const std::string group = "decoder.groups." + std::to_string(g);
    add(group + ".cross.q", h, h);
    add(group + ".cross.o", h, h);
    add_mlp(group + ".cross");
    for (int64_t i = 0; i < model.cross_layer_interval; ++i) {
      const std::string layer = group + ".layers." + std::to_string(i);
      add(layer + ".qkv", 3 * h, h);
      add(layer + ".o", h, h);
      add_mlp(layer);
    }
  }
  AddLinear("decoder.lm_head", model.total_vocab_size(), h, manifest.dtype, "none", &tensors);
  return tensors;
}

Status CheckDecoderLinears(const BundleManifest& manifest, const std::vector<TensorView>& tensors) {
  std::unordered_map<std::string_view, const TensorView*> found;
  for (const TensorView& tensor : tensors) found.emplace(tensor.name, &tensor);
  for (const ExpectedTensor& expected : DecoderLinears(manifest)) {
    const auto at = found.find(expected.name);
    if (at == found.end()) continue;
    const TensorView& tensor = *at->second;
    if (tensor.dtype == expected.dtype && tensor.shape == expected.shape) continue;
    return Status::InvalidInput("tensor " + tensor.name + " is " +
                                Describe(tensor.dtype, tensor.shape) + ", bundle.json makes it " +
                                Describe(expected.dtype, expected.shape) +
                                ": export the checkpoint again");
  }
  return Status::Ok();
}

}  // namespace idefics
