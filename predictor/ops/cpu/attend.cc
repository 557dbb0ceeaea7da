// SPDX-License-Identifier: Apache-2.0
// CPU versions of the attention operators: no padding, no score matrix. Neighbouring tokens share
// the reading of their keys and values; a token's result does not depend on its neighbours.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "predictor/ops/cpu/attend_math.h"
#include "predictor/ops/cpu/row_math.h"
#include "predictor/ops/cpu/scratch.h"
#include "predictor/ops/cpu/share_work.h"
#include "predictor/ops/kv_cache.h"
#include "predictor/ops/operators.h"

namespace idefics {
namespace {

constexpr int64_t kSharesPerThread = 16;

// Neighbouring tokens that all see the same keys, or of which each sees one key more than the last.
struct QueryGroup {
  int64_t token;
  int64_t queries;
  KeySlots slots;
  int64_t keys;  // that the last token sees
};

// Divides the tokens of `all` into groups of at most kMaxQueries.
void AddGroups(const QueryGroup& all, bool causal, std::vector<QueryGroup>* groups) {
  for (int64_t done = 0; done < all.queries; done += kMaxQueries) {
    QueryGroup group = all;
    group.token += done;
    group.queries = std::min(kMaxQueries, all.queries - done);
    if (causal) group.keys -= all.queries - done - group.queries;
    groups->push_back(group);
  }
}

// The memory layout of a head's keys; strides in elements.
struct KeyLayout {
  int64_t row_stride;
  int64_t head_stride;
  int64_t scales;  // in 8 bit: bytes of a slot before them
  bool causal;
};

template <typename Key>
HeadRows<Key> RowsOfHead(const at::Tensor& cache, const KeyLayout& layout, int64_t head) {
  const Key* const first = cache.const_data_ptr<Key>();
  HeadRows<Key> rows{first + head * layout.head_stride, nullptr};
  if constexpr (std::is_same_v<Key, int8_t>) {
    rows.scales = reinterpret_cast<const float*>(first + layout.scales) + head;
  }
  return rows;
}

// q [T, H, d] → out [T, H·d], for the tokens of the groups.
void AttendGroups(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const std::vector<QueryGroup>& groups, const KeyLayout& layout,
                  const at::Tensor& out) {
  TORCH_CHECK(q.is_contiguous());
  const int64_t heads = q.size(1);
  const int64_t dim = q.size(2);
  int64_t products = 0;
  for (const QueryGroup& group : groups) products += group.queries * group.keys * heads * dim;
  const auto attend = [&](auto tag, auto key_tag) {
    using T = decltype(tag);
    using Key = decltype(key_tag);
    const auto count = static_cast<int64_t>(groups.size());
    const auto run = [&](int64_t begin, int64_t end) {
      Scratch scratch;
      auto* const numbers = scratch.Take<float>(AttendScratch(dim));
      for (int64_t i = begin; i < end; ++i) {
        const QueryGroup& group = groups[i % count];
        const int64_t head = i / count;
        const int64_t queries = (group.token * heads + head) * dim;
        AttendHead(HeadQueries<T, Key>{.q = q.const_data_ptr<T>() + queries,
                                       .out = out.data_ptr<T>() + queries,
                                       .queries = group.queries,
                                       .q_stride = heads * dim,
                                       .k = RowsOfHead<Key>(k, layout, head),
                                       .v = RowsOfHead<Key>(v, layout, head),
                                       .slots = group.slots,
                                       .keys = group.keys,
                                       .kv_stride = layout.row_stride,
                                       .causal = layout.causal,
                                       .dim = dim},
                   numbers);
      }
    };
    const int64_t items = heads * count;
    const int64_t shares = at::get_num_threads() * kSharesPerThread;
    ShareWork(items, (items + shares - 1) / shares, products, run);
  };
  ForElementType(q.scalar_type(), "attention", [&](auto tag) {
    ForKeyType<decltype(tag)>(k, [&](auto key_tag) { attend(tag, key_tag); });
  });
}

void CheckIndices(const at::Tensor& indices, int64_t count, const char* what) {
  TORCH_CHECK(
      indices.scalar_type() == at::kInt && indices.is_contiguous() && indices.numel() == count,
      what, " must be ", count, " contiguous i32, not ", indices.numel(), " ",
      indices.scalar_type());
}

at::Tensor Attend(const at::Tensor& q, const at::Tensor& k_cache, const at::Tensor& v_cache,
                  const at::Tensor& row_starts, const at::Tensor& kv_starts,
                  const at::Tensor& kv_lengths) {
  const int64_t row_count = row_starts.numel() - 1;
  CheckIndices(row_starts, row_count + 1, "row_starts");
  CheckIndices(kv_starts, 2 * row_count, "kv_starts");
  CheckIndices(kv_lengths, 2 * row_count, "kv_lengths");
  const auto* const rows = row_starts.const_data_ptr<int32_t>();
  const auto* const starts = kv_starts.const_data_ptr<int32_t>();
  const auto* const lengths = kv_lengths.const_data_ptr<int32_t>();
  std::vector<QueryGroup> groups;
  for (int64_t r = 0; r < row_count; ++r) {
    const KeySlots slots{lengths[2 * r], starts[2 * r], starts[2 * r + 1]};
    AddGroups({rows[r], rows[r + 1] - rows[r], slots, lengths[2 * r + 1]}, true, &groups);
  }
  const KvHeads shape{q.size(1), q.size(2)};
  CheckKvCaches(q, k_cache, v_cache, shape);
  const KeyLayout layout{.row_stride = k_cache.stride(0),
                         .head_stride = shape.dim,
                         .scales = shape.width(),
                         .causal = true};
  at::Tensor out = Uninitialized({q.size(0), shape.width()}, q);
  AttendGroups(q, k_cache, v_cache, groups, layout, out);
  return out;
}

at::Tensor AttendImage(const at::Tensor& q, const at::Tensor& image_k, const at::Tensor& image_v,
                       const at::Tensor& image_slots) {
  const int64_t tokens = q.size(0);
  const int64_t heads = q.size(1);
  const int64_t dim = q.size(2);
  const int64_t latents = image_k.size(2);
  CheckIndices(image_slots, tokens, "image_slots");
  const auto* const slot_of = image_slots.const_data_ptr<int32_t>();
  std::vector<QueryGroup> groups;
  for (int64_t begin = 0, end = 0; begin < tokens; begin = end) {
    while (end < tokens && slot_of[end] == slot_of[begin]) ++end;
    if (slot_of[begin] < 0) continue;
    const KeySlots slots{.own_first = slot_of[begin] * heads * latents};
    AddGroups({begin, end - begin, slots, latents}, false, &groups);
  }
  at::Tensor out = at::zeros({tokens, heads * dim}, q.options());
  TORCH_CHECK(image_k.is_contiguous() && image_v.is_contiguous());
  TORCH_CHECK(image_k.scalar_type() == q.scalar_type() && image_v.scalar_type() == q.scalar_type(),
              "attention takes queries, keys and values of one dtype");
  const KeyLayout layout{
      .row_stride = dim, .head_stride = latents * dim, .scales = 0, .causal = false};
  AttendGroups(q, image_k, image_v, groups, layout, out);
  return out;
}

at::Tensor Swiglu(const at::Tensor& gate_up) {
  const int64_t tokens = gate_up.size(0);
  const int64_t width = gate_up.size(1) / 2;
  TORCH_CHECK(gate_up.is_contiguous());
  at::Tensor out = Uninitialized({tokens, width}, gate_up);
  ForElementType(gate_up.scalar_type(), "idefics::swiglu", [&](auto tag) {
    using T = decltype(tag);
    const T* in = gate_up.const_data_ptr<T>();
    T* result = out.data_ptr<T>();
    ShareRows(tokens, width, [&](int64_t begin, int64_t end) {
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
