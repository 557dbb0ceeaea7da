// SPDX-License-Identifier: Apache-2.0
// Cuts a rank's part (shard.h) out of the stored tensors of a linear.
#pragma once

#include <ATen/core/Tensor.h>

#include "weights/shard.h"

namespace idefics {

// The part of a linear's weight, or of its scale, in the same stored form: a copy, or `stored`
// itself where nothing is cut. Throws c10::Error where memory is short.
at::Tensor CutWeight(const at::Tensor& stored, const LinearShard& shard);
at::Tensor CutScale(const at::Tensor& stored, const LinearShard& shard);

}  // namespace idefics
