// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/cpu/attend_math.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "predictor/ops/cpu/inlining.h"
#include "predictor/ops/cpu/vector_math.h"

namespace idefics {
namespace {

constexpr int64_t kKeys = 32;  // of a block; a row's keys are divided from its first one on
constexpr int64_t kWidth = 16;
constexpr int64_t kChunks = 4;  // vectors of an output that stay in registers
constexpr int64_t kFold = 4;    // keys whose scores are added up together
constexpr int64_t kLineBytes = 64;

// GCC's and Clang's vectors: any CPU computes them, in as many registers as it takes.
using Floats = float __attribute__((vector_size(kWidth * sizeof(float)), aligned(4), may_alias));
using Four = float __attribute__((vector_size(4 * sizeof(float)), aligned(4), may_alias));

IDEFICS_INLINE const Floats& At(const float* p) { return *reinterpret_cast<const Floats*>(p); }
IDEFICS_INLINE Floats& At(float* p) { return *reinterpret_cast<Floats*>(p); }

int64_t Padded(int64_t dim) {
  constexpr int64_t kPart = kWidth * kChunks;
  return (dim + kPart - 1) / kPart * kPart;
}

// Views of the scratch memory; rows are padded with zeros to `width`.
struct Scratch {
  int64_t width;
  float* q;        // [kMaxQueries, width], divided by √d
  float* out;      // [kMaxQueries, width], not yet divided by total
  float* k;        // [kKeys, width]
  float* v;        // [kKeys, width]
  float* largest;  // [kMaxQueries]: score so far
  float* total;    // [kMaxQueries]: Σ e^(score - largest)
  float* weights;  // [kKeys]

  Scratch(float* memory, int64_t dim) : width(Padded(dim)) {
    q = memory;
    out = q + kMaxQueries * width;
    k = out + kMaxQueries * width;
    v = k + kKeys * width;
    largest = v + kKeys * width;
    total = largest + kMaxQueries;
    weights = total + kMaxQueries;
  }
};

template <typename T>
IDEFICS_INLINE void WidenRow(const T* from, int64_t dim, float factor, int64_t width, float* to) {
  for (int64_t i = 0; i < dim; ++i) to[i] = Wide(from[i]) * factor;
  for (int64_t i = dim; i < width; ++i) to[i] = 0;
}

// at: of the slot's first element.
template <typename Key>
IDEFICS_INLINE void WidenSlot(const HeadRows<Key>& rows, int64_t at, int64_t dim, int64_t width,
                              float* to) {
  float scale = 1;
  if constexpr (std::is_same_v<Key, int8_t>) scale = rows.scales[at / int64_t{sizeof(float)}];
  WidenRow(rows.first + at, dim, scale, width, to);
}

// The rows of one head are far apart, so no hardware prefetcher follows them.
template <typename T>
IDEFICS_INLINE void FetchRow(const T* row, int64_t dim) {
  const auto* const bytes = reinterpret_cast<const char*>(row);
  const auto size = dim * static_cast<int64_t>(sizeof(T));
  for (int64_t i = 0; i < size; i += kLineBytes) __builtin_prefetch(bytes + i);
}

template <typename T, typename Key>
IDEFICS_INLINE void WidenKeys(const HeadQueries<T, Key>& head, int64_t first, int64_t count,
                              const Scratch& s) {
  constexpr int64_t kAhead = 16;
  for (int64_t j = 0; j < count; ++j) {
    const int64_t at = head.slots.At(first + j) * head.kv_stride;
    if (first + j + kAhead < head.keys) {
      const int64_t ahead = head.slots.At(first + j + kAhead) * head.kv_stride;
      FetchRow(head.k.first + ahead, head.dim);
      FetchRow(head.v.first + ahead, head.dim);
    }
    WidenSlot(head.k, at, head.dim, s.width, s.k + j * s.width);
    WidenSlot(head.v, at, head.dim, s.width, s.v + j * s.width);
  }
}

IDEFICS_INLINE Four FoldToFour(Floats x) {
  return (__builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 8, 9, 10, 11)) +
         (__builtin_shufflevector(x, x, 4, 5, 6, 7) +
          __builtin_shufflevector(x, x, 12, 13, 14, 15));
}

// The sums of a, b, c and d.
IDEFICS_INLINE Four Totals(Four a, Four b, Four c, Four d) {
  const Four ab =
      __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Four cd =
      __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

// q · k of kFold keys, `width` apart.
IDEFICS_INLINE Four Scores(const float* q, const float* k, int64_t width) {
  Floats a = {}, b = {}, c = {}, d = {};
  for (int64_t i = 0; i < width; i += kWidth) {
    const Floats x = At(q + i);
    a += x * At(k + i);
    b += x * At(k + width + i);
    c += x * At(k + 2 * width + i);
    d += x * At(k + 3 * width + i);
  }
  return Totals(FoldToFour(a), FoldToFour(b), FoldToFour(c), FoldToFour(d));
}

// out = out · keep + Σ weights[j] · v[j] over `count` keys.
IDEFICS_INLINE void AddValues(const Scratch& s, float keep, int64_t count, float* out) {
  for (int64_t at = 0; at < s.width; at += kWidth * kChunks) {
    Floats sums[kChunks];
    for (int64_t c = 0; c < kChunks; ++c) sums[c] = At(out + at + c * kWidth) * keep;
    const float* v = s.v + at;
    for (int64_t j = 0; j < count; ++j, v += s.width) {
      for (int64_t c = 0; c < kChunks; ++c) sums[c] += s.weights[j] * At(v + c * kWidth);
    }
    for (int64_t c = 0; c < kChunks; ++c) At(out + at + c * kWidth) = sums[c];
  }
}

// One query and the first `count` keys of the block.
IDEFICS_INLINE void AttendBlock(const Scratch& s, int64_t query, int64_t count) {
  float* const weights = s.weights;
  for (int64_t j = 0; j < count; j += kFold) {
    *reinterpret_cast<Four*>(weights + j) =
        Scores(s.q + query * s.width, s.k + j * s.width, s.width);
  }
  float largest = s.largest[query];
  for (int64_t j = 0; j < count; ++j) largest = weights[j] > largest ? weights[j] : largest;
  const float keep = Exp(s.largest[query] - largest);
  for (int64_t j = 0; j < kKeys; ++j) {
    weights[j] = j < count ? Exp(weights[j] - largest) : 0.0f;
  }
  const Four sums = FoldToFour(At(weights) + At(weights + kWidth));
  s.total[query] = s.total[query] * keep + ((sums[0] + sums[1]) + (sums[2] + sums[3]));
  s.largest[query] = largest;
  AddValues(s, keep, count, s.out + query * s.width);
}

template <typename T, typename Key>
IDEFICS_INLINE void AttendHeadOf(const HeadQueries<T, Key>& head, float* memory) {
  const Scratch s(memory, head.dim);
  const float scale = 1.0f / std::sqrt(static_cast<float>(head.dim));
  for (int64_t i = 0; i < head.queries; ++i) {
    WidenRow(head.q + i * head.q_stride, head.dim, scale, s.width, s.q + i * s.width);
    std::fill_n(s.out + i * s.width, s.width, 0.0f);
    s.largest[i] = -INFINITY;
    s.total[i] = 0;
  }
  for (int64_t first = 0; first < head.keys; first += kKeys) {
    const int64_t count = std::min(kKeys, head.keys - first);
    WidenKeys(head, first, count, s);
    for (int64_t i = 0; i < head.queries; ++i) {
      const int64_t sees = head.keys - (head.causal ? head.queries - 1 - i : 0) - first;
      if (sees > 0) AttendBlock(s, i, std::min(sees, count));
    }
  }
  for (int64_t i = 0; i < head.queries; ++i) {
    const float inverse = 1.0f / s.total[i];
    const float* const sums = s.out + i * s.width;
    T* const out = head.out + i * head.q_stride;
    for (int64_t d = 0; d < head.dim; ++d) out[d] = Narrow<T>(sums[d] * inverse);
  }
}

}  // namespace

int64_t AttendScratch(int64_t dim) {
  return 2 * (kMaxQueries + kKeys) * Padded(dim) + 2 * kMaxQueries + kKeys;
}

IDEFICS_CLONES void AttendHead(const HeadQueries<float>& head, float* scratch) {
  AttendHeadOf(head, scratch);
}
IDEFICS_CLONES void AttendHead(const HeadQueries<c10::BFloat16>& head, float* scratch) {
  AttendHeadOf(head, scratch);
}
IDEFICS_CLONES void AttendHead(const HeadQueries<c10::Half>& head, float* scratch) {
  AttendHeadOf(head, scratch);
}
IDEFICS_CLONES void AttendHead(const HeadQueries<float, int8_t>& head, float* scratch) {
  AttendHeadOf(head, scratch);
}
IDEFICS_CLONES void AttendHead(const HeadQueries<c10::BFloat16, int8_t>& head, float* scratch) {
  AttendHeadOf(head, scratch);
}
IDEFICS_CLONES void AttendHead(const HeadQueries<c10::Half, int8_t>& head, float* scratch) {
  AttendHeadOf(head, scratch);
}

}  // namespace idefics
