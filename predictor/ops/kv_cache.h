// SPDX-License-Identifier: Apache-2.0
// How the keys and values of a decoder layer are stored, for all versions of rope_write and attend:
// in the activations' type, [slots, H, d], or in 8 bit (--kv-dtype int8), i8 [slots, H · (d + 4)]:
// a slot's codes of all heads, [H, d], then an f32 scale of each. A number is code · scale; scale
// is the largest magnitude among the head's d numbers, divided by 127. So a scale and a pack of
// eight codes are aligned where d and H are even enough. Where a number is not finite the codes are
// 0 and the scale is NaN. Any thread.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <cstdint>

namespace idefics {

constexpr int64_t kKvScaleBytes = 4;

struct KvHeads {
  int64_t heads;
  int64_t dim;

  int64_t width() const { return heads * dim; }
  // Of a slot in 8 bit.
  int64_t bytes_in_int8() const { return heads * (dim + kKvScaleBytes); }
};

// Of qkv [T, 3·H·d], with the angles' cos [T, d/2].
inline KvHeads HeadsOf(const at::Tensor& qkv, const at::Tensor& cos) {
  TORCH_CHECK(qkv.dim() == 2 && cos.dim() == 2 && cos.size(0) == qkv.size(0) && cos.size(1) > 0);
  const int64_t dim = 2 * cos.size(1);
  return {qkv.size(1) / (3 * dim), dim};
}

inline bool IsInt8Kv(const at::Tensor& cache) { return cache.scalar_type() == at::kChar; }

// Both caches are contiguous, stored alike, of heads like these, and can be used beside activations
// such as `x`. Throws c10::Error.
inline void CheckKvCaches(const at::Tensor& x, const at::Tensor& k_cache, const at::Tensor& v_cache,
                          KvHeads shape) {
  for (const at::Tensor* cache : {&k_cache, &v_cache}) {
    TORCH_CHECK(cache->is_contiguous() && cache->device() == x.device() &&
                    cache->scalar_type() == k_cache.scalar_type() && cache->dim() > 1,
                "the caches of keys and values must be contiguous, of one dtype and on one device");
    if (IsInt8Kv(*cache)) {
      TORCH_CHECK(shape.dim % kKvScaleBytes == 0 && cache->size(1) == shape.bytes_in_int8(),
                  "a KV cache in 8 bit has ", shape.bytes_in_int8(),
                  " bytes a slot, and heads of a multiple of 4 numbers, not ", cache->size(1),
                  " bytes and ", shape.dim, " numbers");
    } else {
      TORCH_CHECK(cache->scalar_type() == x.scalar_type() && cache->dim() == 3 &&
                      cache->size(1) == shape.heads && cache->size(2) == shape.dim,
                  "a KV cache has the activations' dtype ", x.scalar_type(), " and heads, not ",
                  cache->scalar_type(), " ", cache->sizes());
    }
  }
}

// Calls run(Key{}) with the C++ type of the cache's numbers beside activations of type T.
template <typename T, typename Run>
void ForKeyType(const at::Tensor& cache, const Run& run) {
  IsInt8Kv(cache) ? run(int8_t{}) : run(T{});
}

}  // namespace idefics
