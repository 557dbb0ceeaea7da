// SPDX-License-Identifier: Apache-2.0
// Attention of one head for the CPU operators: softmax(q kᵀ / √d) v with the softmax in its online
// form (arXiv 1805.02867) over blocks of keys, all sums in f32. A query's result is one sequence of
// operations over its own keys, whatever queries are computed beside it. attend_math.cc is compiled
// for several instruction sets. Thread safe.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdint>

namespace idefics {

constexpr int64_t kMaxQueries = 32;  // of one AttendHead

// The arena slots of a row's keys, of which the first ones may be shared with other rows.
struct KeySlots {
  int64_t shared = 0;        // keys
  int64_t shared_first = 0;  // slot
  int64_t own_first = 0;     // slot of key `shared`

  int64_t At(int64_t key) const {
    return key < shared ? shared_first + key : own_first + key - shared;
  }
};

// The keys, or values, of one head. Strides in elements.
template <typename Key>
struct HeadRows {
  const Key* first;     // [slots, dim], kv_stride
  const float* scales;  // in 8 bit: of slot 0; kv_stride / 4 from one slot to the next
};

// Some queries of one head and the keys that the last of them sees. Strides in elements. `Key`: T,
// or int8_t (../kv_cache.h).
template <typename T, typename Key = T>
struct HeadQueries {
  const T* q;  // [queries, dim], q_stride
  T* out;      // as q
  int64_t queries;
  int64_t q_stride;
  HeadRows<Key> k;
  HeadRows<Key> v;
  KeySlots slots;
  int64_t keys;  // that the last query sees
  int64_t kv_stride;
  bool causal;  // query i sees `queries - 1 - i` keys fewer than the last; else all see all
  int64_t dim;
};

// f32 numbers that AttendHead needs as scratch.
int64_t AttendScratch(int64_t dim);

// f32 numbers that a register of this CPU holds: 4, 8 or 16. All add in one order; without fused
// multiply-add, which an x86 CPU with 4 may lack, results are rounded more often.
int AttendLanes();

// REQUIRES: 1 ≤ queries ≤ kMaxQueries; the first query sees at least one key; lanes ≤
// AttendLanes().
void AttendHead(const HeadQueries<float>& head, float* scratch, int lanes = AttendLanes());
void AttendHead(const HeadQueries<c10::BFloat16>& head, float* scratch, int lanes = AttendLanes());
void AttendHead(const HeadQueries<c10::Half>& head, float* scratch, int lanes = AttendLanes());
void AttendHead(const HeadQueries<float, int8_t>& head, float* scratch, int lanes = AttendLanes());
void AttendHead(const HeadQueries<c10::BFloat16, int8_t>& head, float* scratch,
                int lanes = AttendLanes());
void AttendHead(const HeadQueries<c10::Half, int8_t>& head, float* scratch,
                int lanes = AttendLanes());

}  // namespace idefics
