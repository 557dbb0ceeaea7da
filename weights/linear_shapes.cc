// SPDX-License-Identifier: Apache-2.0
#include "weights/linear_shapes.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>
#include <unordered_set>

#include "common/check.h"
#include "weights/linear_layout.h"

namespace idefics {
namespace {

std::string Describe(DType dtype, const std::vector<int64_t>& shape) {
  std::string text = std::string(DTypeName(dtype)) + " [";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  }
  return text + "]";
}

// A linear that is not quantized is stored in the activations' type. REQUIRES: both values come
// from a manifest that ParseManifest accepted.
LinearForm FormOf(const std::string& quantization, DType dtype) {
  const auto* const format = std::find_if(
      std::begin(kLinearFormats), std::end(kLinearFormats), [&](const LinearFormat& candidate) {
        return candidate.quantization == quantization &&
               (quantization != "none" || candidate.dtype == dtype);
      });
  IDEFICS_CHECK(format != std::end(kLinearFormats));
  return format->form;
}

ExpectedTensor Expect(const std::string& name, const StoredTensor& stored) {
  return {name, stored.dtype, {stored.sizes, stored.sizes + stored.rank}};
}

// Appends the tensors of one linear, W [n, k].
void AddLinear(const std::string& name, int64_t n, int64_t k, LinearForm form,
               std::vector<ExpectedTensor>* tensors) {
  const LinearLayout layout = LayoutOf(form, n, k);
  tensors->push_back(Expect(name + ".weight", layout.weight));
  if (layout.scale.rank > 0) tensors->push_back(Expect(name + ".scale", layout.scale));
}

}  // namespace

std::vector<ExpectedTensor> DecoderLinears(const BundleManifest& manifest) {
  const ModelConfig& model = manifest.model;
  const int64_t h = model.hidden_size;
  const int64_t f = model.intermediate_size;
  const std::unordered_set<std::string> int8(manifest.int8_linears.begin(),
                                             manifest.int8_linears.end());
  std::vector<ExpectedTensor> tensors;
  const auto add_as = [&](const std::string& quantization, const std::string& name, int64_t n,
                          int64_t k) {
    AddLinear(name, n, k, FormOf(int8.contains(name) ? "int8" : quantization, manifest.dtype),
              &tensors);
  };
  const auto add = [&](const std::string& name, int64_t n, int64_t k) {
    add_as(manifest.quantization, name, n, k);
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
  add_as("none", "decoder.lm_head", model.total_vocab_size(), h);
  return tensors;
}

std::vector<ExpectedTensor> VisionLinears(const BundleManifest& manifest) {
  const ModelConfig& model = manifest.model;
  const int64_t e = model.vision.embed_dim;
  const LinearForm form = FormOf(manifest.vision_quantization, manifest.dtype);
  std::vector<ExpectedTensor> tensors;
  const auto add = [&](const std::string& name, int64_t n, int64_t k) {
    AddLinear("vision." + name, n, k, form, &tensors);
  };
  const int64_t side = model.vision.patch_size;
  AddLinear("vision.patch_embedding", e, model.vision.num_channels * side * side,
            FormOf("none", manifest.dtype), &tensors);
  for (int64_t i = 0; i < model.vision.num_layers; ++i) {
    const std::string layer = "layers." + std::to_string(i);
    add(layer + ".qkv", 3 * e, e);
    add(layer + ".out", e, e);
    add(layer + ".fc1", model.vision.intermediate_size, e);
    add(layer + ".fc2", e, model.vision.intermediate_size);
  }
  const int64_t inner = model.perceiver.num_heads * model.perceiver.head_dim;
  for (int64_t i = 0; model.use_resampler && i < model.perceiver.depth; ++i) {
    const std::string block = "blocks." + std::to_string(i);
    add(block + ".q", inner, e);
    add(block + ".kv", 2 * inner, e);
    add(block + ".out", e, inner);
    add(block + ".fc", 4 * e, e);
    add(block + ".proj", e, 4 * e);
  }
  for (int64_t i = 0; i < model.num_cross_layers(); ++i) {
    add("cross." + std::to_string(i) + ".kv", 2 * model.hidden_size, e);
  }
  return tensors;
}

Status CheckLinears(const BundleManifest& manifest, const std::vector<TensorView>& tensors) {
  std::unordered_map<std::string_view, const TensorView*> found;
  for (const TensorView& tensor : tensors) found.emplace(tensor.name, &tensor);
  std::vector<ExpectedTensor> linears = DecoderLinears(manifest);
  std::ranges::move(VisionLinears(manifest), std::back_inserter(linears));
  for (const ExpectedTensor& expected : linears) {
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
