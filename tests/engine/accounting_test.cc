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

TEST_CASE("extents never overlap and their sum is what is used", "[kv]") {
  std::mt19937 random(3);
  KvExtents extents(1000);
  std::vector<bool> taken(1000, false);
  std::vector<std::pair<int64_t, int64_t>> owned;
  int64_t used = 0;
  for (int i = 0; i < 5000; ++i) {
    if (random() % 2 == 0 || owned.empty()) {
      const int64_t tokens = 1 + static_cast<int64_t>(random() % 120);
      const auto start = extents.Allocate(tokens);
      if (!start) continue;
      for (int64_t t = *start; t < *start + tokens; ++t) {
        REQUIRE(!taken.at(t));
        taken[t] = true;
      }
      owned.emplace_back(*start, tokens);
      used += tokens;
    } else {
      const size_t which = random() % owned.size();
      const auto [start, tokens] = owned[which];
      extents.Free(start);
      for (int64_t t = start; t < start + tokens; ++t) taken[t] = false;
      owned.erase(owned.begin() + static_cast<ptrdiff_t>(which));
      used -= tokens;
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

int32_t Pin(ImageCache& cache, const std::string& sha256) {
  return cache.PinAll(std::vector{sha256}).value().front();
}

TEST_CASE("a pinned image is never evicted, the least recently used one goes first",
          "[image-cache]") {
  ImageCache cache(2);
  const int32_t a = Pin(cache, "a");
  cache.SetEncoded(a, true);
  const int32_t b = Pin(cache, "b");
  cache.SetEncoded(b, true);
  CHECK(!cache.PinAll(std::vector<std::string>{"c"}).has_value());  // both pinned
  cache.Unpin(a);
  cache.Unpin(b);
  CHECK(Pin(cache, "a") == a);  // a is now the more recent one
  CHECK(cache.encoded(a));
  CHECK(Pin(cache, "c") == b);
  CHECK(!cache.encoded(b));
  CHECK(cache.hits() == 1);
  CHECK(cache.misses() == 3);
}

TEST_CASE("an image that could not be encoded is forgotten", "[image-cache]") {
  ImageCache cache(1);
  const int32_t slot = Pin(cache, "a");
  cache.SetEncoded(slot, false);
  cache.Unpin(slot);
  CHECK(Pin(cache, "a") == slot);
  CHECK(!cache.encoded(slot));
  CHECK(cache.hits() == 0);
}

TEST_CASE("the images of a request are pinned together or not at all", "[image-cache]") {
  const std::vector<std::string> both{"b", "c"};
  ImageCache cache(3);
  const int32_t a = Pin(cache, "a");
  const int32_t other = Pin(cache, "other");
  const int32_t b = Pin(cache, "b");
  cache.SetEncoded(b, true);
  SECTION("what does not fit evicts nothing and counts nothing") {
    for (int i = 0; i < 5; ++i) CHECK(!cache.PinAll(both).has_value());
    CHECK(cache.hits() == 0);
    CHECK(cache.misses() == 3);
    cache.Unpin(a);
    CHECK(cache.PinAll(both).has_value());
    CHECK(cache.hits() == 1);
    CHECK(cache.misses() == 4);
  }
  SECTION("an image that is there is not evicted by one that is not") {
    cache.Unpin(b);
    cache.Unpin(other);
    CHECK(!cache.PinAll(std::vector<std::string>{"c", "d", "b"}).has_value());
    cache.Unpin(a);
    const auto slots = cache.PinAll(std::vector<std::string>{"c", "d", "b"});
    REQUIRE(slots.has_value());
    CHECK(slots->back() == b);
    CHECK(cache.encoded(b));
  }
  SECTION("an image that is given twice takes one slot") {
    cache.Unpin(a);
    const auto slots = cache.PinAll(std::vector<std::string>{"c", "c"});
    REQUIRE(slots.has_value());
    CHECK(slots->front() == slots->back());
    cache.Unpin(slots->front());
    cache.Unpin(slots->front());
  }
}

}  // namespace
}  // namespace idefics
