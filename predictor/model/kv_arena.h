// SPDX-License-Identifier: Apache-2.0
// KvArena: the keys and values of all sequences, in the device's memory. Engine thread; methods
// throw c10::Error.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>

#include "predictor/model/model_runner.h"
#include "predictor/ops/kv_cache.h"
#include "weights/manifest.h"

namespace idefics {

// The type of a bundle's activations.
at::ScalarType ActivationType(DType dtype);

struct KvArena {
  // [layers, tokens + 1, H, d] in the activations' type, or in 8 bit as predictor/ops/kv_cache.h
  // says. The last slot belongs to no sequence: it is the graphs' scratch slot.
  at::Tensor k, v;

  // options: the device and the activations' type. Memory is committed when a sequence first uses
  // it.
  static KvArena Allocate(int64_t layers, const KvHeads& heads, KvDType dtype, int64_t tokens,
                          const at::TensorOptions& options);

  // On the current queue.
  void Copy(const KvCopy& copy) const;
};

}  // namespace idefics
