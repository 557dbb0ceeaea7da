// SPDX-License-Identifier: Apache-2.0
// The types and shapes of the linears that follow from bundle.json (linear_layout.h). The
// kernels trust them, so a bundle with others is refused when it is loaded.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/status.h"
#include "weights/manifest.h"
#include "weights/safetensors.h"

namespace idefics {

struct ExpectedTensor {
  std::string name;  // "decoder.groups.0.layers.1.qkv.weight"
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
};

// The weight, and the scale where there is one, of every linear of the decoder.
std::vector<ExpectedTensor> DecoderLinears(const BundleManifest& manifest);

// The same of everything that looks at pictures.
std::vector<ExpectedTensor> VisionLinears(const BundleManifest& manifest);

// Fails with kInvalidInput where `tensors` has one of them with another type or shape. Does not
// look for missing ones: module_loader.h finds those.
Status CheckLinears(const BundleManifest& manifest, const std::vector<TensorView>& tensors);

}  // namespace idefics
