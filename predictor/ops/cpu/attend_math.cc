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
constexpr int kWidth = 16;
constexpr int kChunks = 4;  // kWidth numbers each, of an output that stay in registers
constexpr int kFold = 4;    // keys whose scores are added up together
constexpr int64_t kLineBytes = 64;

// GCC's and Clang's vectors of kLanes numbers. Wider ones than the CPU's registers would be
// computed too, but GCC 12 takes them through the stack.
template <int kLanes>
struct Native;
template <>
struct Native<16> {
  using Floats = float __attribute__((vector_size(64), aligned(4), may_alias));
};
template <>
struct Native<8> {
  using Floats = float __attribute__((vector_size(32), aligned(4), may_alias));
};
template <>
struct Native<4> {
  using Floats = float __attribute__((vector_size(16), aligned(4), may_alias));
};
using Four = Native<4>::Floats;

// kWidth numbers in registers of kLanes.
template <int kLanes>
struct Vector {
  using Part = typename Native<kLanes>::Floats;
  static constexpr int kParts = kWidth / kLanes;
  Part parts[kParts];

  static IDEFICS_INLINE Part& At(float* p) { return *reinterpret_cast<Part*>(p); }
  static IDEFICS_INLINE const Part& At(const float* p) { return *reinterpret_cast<const Part*>(p); }

  static IDEFICS_INLINE Vector Zero() {
    Vector zero;
    Unrolled<kParts>([&](auto i) IDEFICS_ALWAYS { zero.parts[i] = Part{}; });
    return zero;
  }
  static IDEFICS_INLINE Vector Load(const float* p) {
    Vector x;
    Unrolled<kParts>([&](auto i) IDEFICS_ALWAYS { x.parts[i] = At(p + i * kLanes); });
    return x;
  }
  IDEFICS_INLINE void Store(float* p) const {
    Unrolled<kParts>([&](auto i) IDEFICS_ALWAYS { At(p + i * kLanes) = parts[i]; });
  }
  IDEFICS_INLINE void Multiply(float factor) {
    Unrolled<kParts>([&](auto i) IDEFICS_ALWAYS { parts[i] = parts[i] * factor; });
  }
  IDEFICS_INLINE void Add(const Vector& x) {
    Unrolled<kParts>([&](auto i) IDEFICS_ALWAYS { parts[i] += x.parts[i]; });
  }
  // += x · the numbers at p.
  IDEFICS_INLINE void AddProducts(const Vector& x, const float* p) {
    Unrolled<kParts>([&](auto i) IDEFICS_ALWAYS { parts[i] += x.parts[i] * At(p + i * kLanes); });
  }
  IDEFICS_INLINE void AddProducts(float x, const float* p) {
    Unrolled<kParts>([&](auto i) IDEFICS_ALWAYS { parts[i] += x * At(p + i * kLanes); });
  }
  // Number i of the four: (x[i] + x[i + 8]) + (x[i + 4] + x[i + 12]), whatever kLanes.
  IDEFICS_INLINE Four FoldToFour() const {
    if constexpr (kLanes == 4) return (parts[0] + parts[2]) + (parts[1] + parts[3]);
    if constexpr (kLanes == 8) {
      const Part sum = parts[0] + parts[1];
      return __builtin_shufflevector(sum, sum, 0, 1, 2, 3) +
             __builtin_shufflevector(sum, sum, 4, 5, 6, 7);
    }
    if constexpr (kLanes == 16) {
      const Part& x = parts[0];
      return (__builtin_shufflevector(x, x, 0, 1, 2, 3) +
              __builtin_shufflevector(x, x, 8, 9, 10, 11)) +
             (__builtin_shufflevector(x, x, 4, 5, 6, 7) +
              __builtin_shufflevector(x, x, 12, 13, 14, 15));
    }
  }
};

int64_t Padded(int64_t dim) {
  constexpr int64_t kPart = kWidth * kChunks;
  return (dim + kPart - 1) / kPart * kPart;
}

// Views of the scratch memory; rows are padded with zeros to `width`.
struct HeadScratch {
  int64_t width;
  float* q;        // [kMaxQueries, width], divided by √d
  float* out;      // [kMaxQueries, width], not yet divided by total
  float* k;        // [kKeys, width]
  float* v;        // [kKeys, width]
  float* largest;  // [kMaxQueries]: score so far
  float* total;    // [kMaxQueries]: Σ e^(score - largest)
  float* weights;  // [kKeys]

  HeadScratch(float* memory, int64_t dim) : width(Padded(dim)) {
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
                              const HeadScratch& s) {
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

// The sums of a, b, c and d.
IDEFICS_INLINE Four Totals(Four a, Four b, Four c, Four d) {
  const Four ab =
      __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Four cd =
      __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

// q · k of kFold keys, `width` apart.
template <int kLanes>
IDEFICS_INLINE Four Scores(const float* q, const float* k, int64_t width) {
  Vector<kLanes> sums[kFold];
  Unrolled<kFold>([&](auto j) IDEFICS_ALWAYS { sums[j] = Vector<kLanes>::Zero(); });
  for (int64_t i = 0; i < width; i += kWidth) {
    const auto x = Vector<kLanes>::Load(q + i);
    Unrolled<kFold>([&](auto j) IDEFICS_ALWAYS { sums[j].AddProducts(x, k + j * width + i); });
  }
  return Totals(sums[0].FoldToFour(), sums[1].FoldToFour(), sums[2].FoldToFour(),
                sums[3].FoldToFour());
}

// out = out · keep + Σ weights[j] · v[j] over `count` keys.
template <int kLanes>
IDEFICS_INLINE void AddValues(const HeadScratch& s, float keep, int64_t count, float* out) {
  for (int64_t at = 0; at < s.width; at += kWidth * kChunks) {
    Vector<kLanes> sums[kChunks];
    Unrolled<kChunks>([&](auto c) IDEFICS_ALWAYS {
      sums[c] = Vector<kLanes>::Load(out + at + c * kWidth);
      sums[c].Multiply(keep);
    });
    const float* v = s.v + at;
    for (int64_t j = 0; j < count; ++j, v += s.width) {
      const float weight = s.weights[j];
      Unrolled<kChunks>([&](auto c)
                            IDEFICS_ALWAYS { sums[c].AddProducts(weight, v + c * kWidth); });
    }
    Unrolled<kChunks>([&](auto c) IDEFICS_ALWAYS { sums[c].Store(out + at + c * kWidth); });
  }
}

// One query and the first `count` keys of the block.
template <int kLanes>
IDEFICS_INLINE void AttendBlock(const HeadScratch& s, int64_t query, int64_t count) {
  float* const weights = s.weights;
  for (int64_t j = 0; j < count; j += kFold) {
    *reinterpret_cast<Four*>(weights + j) =
        Scores<kLanes>(s.q + query * s.width, s.k + j * s.width, s.width);
  }
  float largest = s.largest[query];
  for (int64_t j = 0; j < count; ++j) largest = weights[j] > largest ? weights[j] : largest;
  const float keep = Exp(s.largest[query] - largest);
  for (int64_t j = 0; j < kKeys; ++j) {
    weights[j] = j < count ? Exp(weights[j] - largest) : 0.0f;
  }
  auto folded = Vector<kLanes>::Load(weights);
  folded.Add(Vector<kLanes>::Load(weights + kWidth));
  const Four sums = folded.FoldToFour();
  s.total[query] = s.total[query] * keep + ((sums[0] + sums[1]) + (sums[2] + sums[3]));
  s.largest[query] = largest;
  AddValues<kLanes>(s, keep, count, s.out + query * s.width);
}

template <int kLanes, typename T, typename Key>
IDEFICS_INLINE void AttendHeadOf(const HeadQueries<T, Key>& head, float* memory) {
  const HeadScratch s(memory, head.dim);
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
      if (sees > 0) AttendBlock<kLanes>(s, i, std::min(sees, count));
    }
  }
  for (int64_t i = 0; i < head.queries; ++i) {
    const float inverse = 1.0f / s.total[i];
    const float* const sums = s.out + i * s.width;
    T* const out = head.out + i * head.q_stride;
    for (int64_t d = 0; d < head.dim; ++d) out[d] = Narrow<T>(sums[d] * inverse);
  }
}

#if IDEFICS_LEVELS
template <typename T, typename Key>
IDEFICS_LEVEL("arch=x86-64-v4")
void AttendHeadV4(const HeadQueries<T, Key>& head, float* scratch) {
  AttendHeadOf<16>(head, scratch);
}

template <typename T, typename Key>
IDEFICS_LEVEL("arch=x86-64-v3")
void AttendHeadV3(const HeadQueries<T, Key>& head, float* scratch) {
  AttendHeadOf<8>(head, scratch);
}
#endif

template <typename T, typename Key>
void AttendHeadWith(int lanes, const HeadQueries<T, Key>& head, float* scratch) {
#if IDEFICS_LEVELS
  if (lanes == 16) return AttendHeadV4(head, scratch);
  if (lanes == 8) return AttendHeadV3(head, scratch);
#endif
  AttendHeadOf<4>(head, scratch);
}

}  // namespace

int64_t AttendScratch(int64_t dim) {
  return 2 * (kMaxQueries + kKeys) * Padded(dim) + 2 * kMaxQueries + kKeys;
}

int AttendLanes() {
#if IDEFICS_LEVELS
  if (__builtin_cpu_supports("x86-64-v4")) return 16;
  if (__builtin_cpu_supports("x86-64-v3")) return 8;
#endif
  return 4;
}

void AttendHead(const HeadQueries<float>& head, float* scratch, int lanes) {
  AttendHeadWith(lanes, head, scratch);
}
void AttendHead(const HeadQueries<c10::BFloat16>& head, float* scratch, int lanes) {
  AttendHeadWith(lanes, head, scratch);
}
void AttendHead(const HeadQueries<c10::Half>& head, float* scratch, int lanes) {
  AttendHeadWith(lanes, head, scratch);
}
void AttendHead(const HeadQueries<float, int8_t>& head, float* scratch, int lanes) {
  AttendHeadWith(lanes, head, scratch);
}
void AttendHead(const HeadQueries<c10::BFloat16, int8_t>& head, float* scratch, int lanes) {
  AttendHeadWith(lanes, head, scratch);
}
void AttendHead(const HeadQueries<c10::Half, int8_t>& head, float* scratch, int lanes) {
  AttendHeadWith(lanes, head, scratch);
}

}  // namespace idefics
