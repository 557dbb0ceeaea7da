// SPDX-License-Identifier: Apache-2.0
// What bundle.json makes of the decoder's linears: their kernels trust shapes and types, so a
// bundle with others is refused when it is loaded. Layouts: predictor/ops/packed_weight.h.
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

// Weight, and scale where there is one, of every linear of the decoder.
std::vector<ExpectedTensor> DecoderLinears(const BundleManifest& manifest);

// Fails with kInvalidInput where one of them is in `tensors` with another type or shape. A missing
// one is left to the module, which knows every tensor.
Status CheckDecoderLinears(const BundleManifest& manifest, const std::vector<TensorView>& tensors);

}  // namespace idefics
