// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/kv_arena.h"

#include <ATen/ops/empty.h>

#include <vector>

namespace idefics {

at::ScalarType ActivationType(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kF16:
      return at::kHalf;
    default:
      return at::kFloat;
  }
}

KvArena KvArena::Allocate(int64_t layers, const KvHeads& heads, KvDType dtype, int64_t tokens,
                          const at::TensorOptions& options) {
  std::vector<int64_t> sizes = {layers, tokens + 1};
  if (dtype == KvDType::kInt8) {
    sizes.push_back(heads.bytes_in_int8());
    const at::TensorOptions bytes = options.dtype(at::kChar);
    return {at::empty(sizes, bytes), at::empty(sizes, bytes)};
  }
  sizes.insert(sizes.end(), {heads.heads, heads.dim});
  return {at::empty(sizes, options), at::empty(sizes, options)};
}

void KvArena::Copy(const KvCopy& copy) const {
  for (const at::Tensor& arena : {k, v}) {
    arena.narrow(1, copy.to, copy.tokens).copy_(arena.narrow(1, copy.from, copy.tokens));
  }
}

}  // namespace idefics
