// SPDX-License-Identifier: Apache-2.0
// KV extents and the image cache: arithmetic without a model.
#include <catch2/catch_test_macros.hpp>
#include <random>
#include <string>
#include <vector>

#include "predictor/engine/image_cache.h"
#include "predictor/engine/kv_extents.h"

namespace idefics {
namespace {

TEST_CASE(
    "extents never overlap and their sum is what is used, also when they grow, shrink and part",
    "[kv]") {
  std::mt19937 random(3);
  KvExtents extents(1000);
  std::vector<bool> taken(1000, false);
  std::vector<std::pair<int64_t, int64_t>> owned;
  int64_t used = 0;
  const auto mark = [&](int64_t begin, int64_t end, bool value) {
    for (int64_t t = begin; t < end; ++t) {
      REQUIRE(taken.at(t) != value);
      taken[t] = value;
    }
  };
  for (int i = 0; i < 8000; ++i) {
    const int64_t tokens = 1 + static_cast<int64_t>(random() % 120);
    const size_t which = owned.empty() ? 0 : random() % owned.size();
    const int kind = owned.empty() ? 0 : static_cast<int>(random() % 4);
    if (kind == 0) {
      const auto start = extents.Allocate(tokens);
      if (!start) continue;
      mark(*start, *start + tokens, true);
      owned.emplace_back(*start, tokens);
      used += tokens;
    } else if (kind == 1) {
      auto& [start, size] = owned[which];
      const int64_t room = extents.RoomAt(start);
      const bool resized = extents.Resize(start, tokens);
      REQUIRE(resized == (tokens <= room));
      if (!resized) continue;
      mark(start + tokens, start + size, false);
      mark(start + size, start + tokens, true);
      used += tokens - size;
      size = tokens;
    } else if (kind == 2 && owned[which].second > tokens) {
      const auto [start, size] = owned[which];
      extents.Split(start, tokens);
      owned[which].second = tokens;
      owned.emplace_back(start + tokens, size - tokens);
    } else {
      const auto [start, size] = owned[which];
      REQUIRE(extents.SizeOf(start) == size);
      extents.Free(start);
      mark(start, start + size, false);
      used -= size;
      owned.erase(owned.begin() + static_cast<ptrdiff_t>(which));
    }
    REQUIRE(extents.used() == used);
  }
  for (const auto& [start, tokens] : owned) extents.Free(start);
  CHECK(extents.Allocate(1000).has_value());  // all free space has grown together again
}

TEST_CASE("an arena without room gives nothing", "[kv]") {
  KvExtents extents(10);
  CHECK(extents.Allocate(6) == 0);
  CHECK(!extents.Allocate(5).has_value());
  CHECK(extents.Allocate(4) == 6);
}

TEST_CASE("a pinned image is never evicted, the least recently used one goes first",
          "[image-cache]") {
  ImageCache cache(2);
  const int32_t a = cache.Pin("a").value();
  cache.SetEncoded(a, true);
  const int32_t b = cache.Pin("b").value();
  cache.SetEncoded(b, true);
  CHECK(!cache.Pin("c").has_value());  // both pinned
  CHECK(cache.num_pinned() == 2);
  CHECK(cache.num_cached() == 0);
  cache.Unpin(a);
  cache.Unpin(b);
  CHECK(cache.num_pinned() == 0);
  CHECK(cache.num_cached() == 2);
  CHECK(cache.Pin("a") == a);  // a is now the more recent one
  CHECK(cache.encoded(a));
  CHECK(cache.num_cached() == 1);
  CHECK(cache.Pin("c") == b);
  CHECK(!cache.encoded(b));
  CHECK(cache.num_pinned() == 2);
  CHECK(cache.num_cached() == 0);
  CHECK(cache.hits() == 1);
  CHECK(cache.misses() == 3);
}

TEST_CASE("an image that could not be encoded is forgotten", "[image-cache]") {
  ImageCache cache(1);
  const int32_t slot = cache.Pin("a").value();
  cache.SetEncoded(slot, false);
  cache.Unpin(slot);
  CHECK(cache.num_pinned() == 0);
  CHECK(cache.num_cached() == 0);
  CHECK(cache.Pin("a") == slot);
  CHECK(!cache.encoded(slot));
  CHECK(cache.hits() == 0);
}

TEST_CASE("an image that finds no slot evicts nothing and counts nothing", "[image-cache]") {
  ImageCache cache(2);
  const int32_t a = cache.Pin("a").value();
  const int32_t b = cache.Pin("b").value();
  cache.SetEncoded(b, true);
  for (int i = 0; i < 5; ++i) CHECK(!cache.Pin("c").has_value());
  CHECK(cache.misses() == 2);
  CHECK(cache.Pin("b") == b);  // twice pinned
  CHECK(cache.hits() == 1);
  cache.Unpin(b);
  CHECK(cache.num_pinned() == 2);  // once each
  CHECK(!cache.Pin("c").has_value());
  cache.Unpin(b);
  CHECK(cache.encoded(b));
  CHECK(cache.Pin("c") == b);
  CHECK(!cache.encoded(b));
  CHECK(cache.Pin("a") == a);
}

}  // namespace
}  // namespace idefics
