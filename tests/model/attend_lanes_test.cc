// SPDX-License-Identifier: Apache-2.0
// Attention with registers of every width that this CPU has, and the memory that it works in.
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <random>
#include <type_traits>
#include <vector>

#include "predictor/ops/cpu/attend_math.h"
#include "predictor/ops/cpu/scratch.h"

namespace idefics::test {
namespace {

constexpr int64_t kHeads = 3;
constexpr int64_t kSlots = 130;

template <typename T>
std::vector<T> Random(int64_t count, uint32_t seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> values(-2, 2);
  std::vector<T> numbers(count);
  for (T& number : numbers) number = static_cast<T>(values(engine));
  return numbers;
}

struct HeadSize {
  int64_t dim;
  int64_t queries;
  int64_t keys;
};

// out [queries, dim] of one head in the middle.
template <typename T>
std::vector<T> Attended(const HeadSize& size, int lanes) {
  const int64_t width = kHeads * size.dim;
  const auto q = Random<T>(size.queries * width, 1);
  const auto k = Random<T>(kSlots * width, 2);
  const auto v = Random<T>(kSlots * width, 3);
  std::vector<T> out(size.queries * width);
  std::vector<float> scratch(AttendScratch(size.dim));
  AttendHead(HeadQueries<T>{.q = q.data() + size.dim,
                            .out = out.data() + size.dim,
                            .queries = size.queries,
                            .q_stride = width,
                            .k = {k.data() + size.dim, nullptr},
                            .v = {v.data() + size.dim, nullptr},
                            .slots = {.shared = 2, .shared_first = 7, .own_first = 20},
                            .keys = size.keys,
                            .kv_stride = width,
                            .causal = true,
                            .dim = size.dim},
             scratch.data(), lanes);
  return out;
}

template <typename T>
void CompareLanes(const HeadSize& size) {
  CAPTURE(size.dim, size.queries, size.keys);
  const auto four = Attended<T>(size, 4);
  if (AttendLanes() < 8) return;
  const auto eight = Attended<T>(size, 8);
  const float tolerance = std::is_same_v<T, float> ? 1e-5f : 0.02f;
  bool near = true;
  for (size_t i = 0; i < four.size(); ++i) {
    near = near && std::abs(static_cast<float>(four[i]) - static_cast<float>(eight[i])) < tolerance;
  }
  CHECK(near);
  if (AttendLanes() < 16) return;
  const auto sixteen = Attended<T>(size, 16);
  CHECK(std::memcmp(eight.data(), sixteen.data(), eight.size() * sizeof(T)) == 0);
}

TEST_CASE("attention does not depend on the width of the registers") {
  std::cerr << "registers of " << AttendLanes() << " numbers and fewer: tested\n";
  for (const int64_t dim : {128, 96, 64, 20}) {
    for (const int64_t keys : {int64_t{6}, int64_t{32}, int64_t{33}, int64_t{100}}) {
      for (const int64_t queries : {int64_t{1}, int64_t{5}}) {
        CompareLanes<float>({dim, queries, keys});
        CompareLanes<c10::BFloat16>({dim, queries, keys});
      }
    }
  }
}

TEST_CASE("arrays of a scratch are on lines of their own, in kept memory and beyond it") {
  Scratch scratch;
  const std::vector<size_t> counts = {1, 33, 0, 5000, Scratch::kKept / 8, Scratch::kKept / 4, 7};
  std::vector<uint32_t*> arrays;
  for (const size_t count : counts) {
    arrays.push_back(scratch.Take<uint32_t>(count));
    CHECK(reinterpret_cast<uintptr_t>(arrays.back()) % 64 == 0);
    std::fill_n(arrays.back(), count, static_cast<uint32_t>(arrays.size()));
  }
  for (size_t i = 0; i < arrays.size(); ++i) {
    const auto own = static_cast<uint32_t>(i + 1);
    CHECK(std::all_of(arrays[i], arrays[i] + counts[i], [&](uint32_t x) { return x == own; }));
  }
}

TEST_CASE("a thread keeps a scratch's memory for the next one") {
  const auto first = [] {
    Scratch scratch;
    return reinterpret_cast<uintptr_t>(scratch.Take<float>(10));
  };
  const uintptr_t kept = first();
  CHECK(first() == kept);
}

}  // namespace
}  // namespace idefics::test
