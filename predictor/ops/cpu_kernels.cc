// SPDX-License-Identifier: Apache-2.0
// CPU versions of the attention operators: no padding, no score matrix, keys and values read once
// where they lie. Softmax is the online form (arXiv 1805.02867), everything summed in f32. A
// token's result does not depend on its neighbours: each (token, head) pair is computed alone and
// in one fixed order.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "predictor/ops/element_type.h"
#include "predictor/ops/row_math.h"

namespace idefics {
namespace {

// How many pieces of work one task should have, so that it is worth waking a thread for. `size`:
// elements that one piece reads.
int64_t PerTask(int64_t size) {
  constexpr int64_t kElementsPerTask = 1 << 17;
  return std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, size));
}

// Keys and values of one head: `count` rows, `stride` elements apart.
template <typename T>
struct KeyRows {
  const T* k;
  const T* v;
  int64_t count;
  int64_t stride;
};

// One query head against its keys; out [dim] in f32. scratch: [dim].
template <typename T>
void AttendOne(const T* q, const KeyRows<T>& rows, int64_t dim, float* scratch, float* out) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  for (int64_t i = 0; i < dim; ++i) scratch[i] = static_cast<float>(q[i]) * scale;
  std::fill(out, out + dim, 0.0f);
  float largest = -INFINITY;
  float total = 0;
  for (int64_t j = 0; j < rows.count; ++j) {
    const float score = Dot(scratch, rows.k + j * rows.stride, dim);
    const float new_largest = std::max(largest, score);
    const float keep = std::exp(largest - new_largest);
    const float weight = std::exp(score - new_largest);
    total = total * keep + weight;
    largest = new_largest;
    ScaleAdd(out, keep, weight, rows.v + j * rows.stride, dim);
  }
  const float inverse = 1.0f / total;
  for (int64_t i = 0; i < dim; ++i) out[i] *= inverse;
}

// Keys that each token sees: (first slot, number), from the ragged row description.
struct KeyRange {
  int64_t start;
  int64_t count;
};

std::vector<KeyRange> KeyRanges(int64_t tokens, const at::Tensor& row_starts,
                                const at::Tensor& kv_starts, const at::Tensor& kv_lengths) {
  const auto* rows = row_starts.const_data_ptr<int32_t>();
  const auto* starts = kv_starts.const_data_ptr<int32_t>();
  const auto* lengths = kv_lengths.const_data_ptr<int32_t>();
  std::vector<KeyRange> ranges(tokens);
  for (int64_t r = 0; r < kv_starts.size(0); ++r) {
    const int64_t before =
        lengths[r] - (rows[r + 1] - rows[r]);  // keys before the row's first token
    for (int64_t t = rows[r]; t < rows[r + 1]; ++t) {
      ranges[t] = {starts[r], before + (t - rows[r]) + 1};
    }
  }
  return ranges;
}

at::Tensor Attend(const at::Tensor& q, const at::Tensor& k_cache, const at::Tensor& v_cache,
                  const at::Tensor& row_starts, const at::Tensor& kv_starts,
                  const at::Tensor& kv_lengths) {
  const int64_t tokens = q.size(0);
  const int64_t heads = q.size(1);
  const int64_t dim = q.size(2);
  const int64_t stride = heads * dim;
  TORCH_CHECK(q.is_contiguous() && k_cache.is_contiguous() && v_cache.is_contiguous());
  const auto ranges = KeyRanges(tokens, row_starts, kv_starts, kv_lengths);
  int64_t all_keys = 0;  // of one head
  for (const KeyRange& range : ranges) all_keys += range.count;
  at::Tensor out = at::empty({tokens, stride}, q.options());
  ForElementType(q.scalar_type(), "idefics::attend", [&](auto tag) {
    using T = decltype(tag);
    const T* queries = q.const_data_ptr<T>();
    const T* keys = k_cache.const_data_ptr<T>();
    const T* values = v_cache.const_data_ptr<T>();
    T* result = out.data_ptr<T>();
    at::parallel_for(0, tokens * heads, PerTask(all_keys * dim / std::max<int64_t>(1, tokens)),
                     [&](int64_t begin, int64_t end) {
                       std::vector<float> scratch(2 * dim);
                       for (int64_t i = begin; i < end; ++i) {
                         const KeyRange range = ranges[i / heads];
                         const int64_t offset = range.start * stride + (i % heads) * dim;
                         AttendOne(queries + i * dim,
                                   KeyRows<T>{keys + offset, values + offset, range.count, stride},
                                   dim, scratch.data(), scratch.data() + dim);
                         std::copy_n(scratch.data() + dim, dim, result + i * dim);
                       }
                     });
  });
  return out;
}

at::Tensor AttendImage(const at::Tensor& q, const at::Tensor& image_k, const at::Tensor& image_v,
                       const at::Tensor& image_entry) {
  const int64_t tokens = q.size(0);
  const int64_t heads = q.size(1);
  const int64_t dim = q.size(2);
  const int64_t latents = image_k.size(2);
  TORCH_CHECK(q.is_contiguous() && image_k.is_contiguous() && image_v.is_contiguous());
  const auto* entry = image_entry.const_data_ptr<int32_t>();
  at::Tensor out = at::zeros({tokens, heads * dim}, q.options());
  ForElementType(q.scalar_type(), "idefics::attend_image", [&](auto tag) {
    using T = decltype(tag);
    const T* queries = q.const_data_ptr<T>();
    const T* keys = image_k.const_data_ptr<T>();
    const T* values = image_v.const_data_ptr<T>();
    T* result = out.data_ptr<T>();
    at::parallel_for(0, tokens * heads, PerTask(latents * dim), [&](int64_t begin, int64_t end) {
      std::vector<float> scratch(2 * dim);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t image = entry[i / heads];
        if (image < 0) continue;
        const int64_t offset = (image * heads + i % heads) * latents * dim;
        AttendOne(queries + i * dim, KeyRows<T>{keys + offset, values + offset, latents, dim}, dim,
                  scratch.data(), scratch.data() + dim);
        std::copy_n(scratch.data() + dim, dim, result + i * dim);
      }
    });
  });
  return out;
}

at::Tensor Swiglu(const at::Tensor& gate_up) {
  const int64_t tokens = gate_up.size(0);
  const int64_t width = gate_up.size(1) / 2;
  TORCH_CHECK(gate_up.is_contiguous());
  at::Tensor out = at::empty({tokens, width}, gate_up.options());
  ForElementType(gate_up.scalar_type(), "idefics::swiglu", [&](auto tag) {
    using T = decltype(tag);
    const T* in = gate_up.const_data_ptr<T>();
    T* result = out.data_ptr<T>();
    at::parallel_for(0, tokens, PerTask(width), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const T* row = in + t * 2 * width;
        SiluMultiply(row, row + width, result + t * width, width);
      }
    });
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(idefics, CPU, library) {
  library.impl("attend", Attend);
  library.impl("attend_image", AttendImage);
  library.impl("swiglu", Swiglu);
}

}  // namespace idefics
