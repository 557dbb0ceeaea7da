// SPDX-License-Identifier: Apache-2.0
// KV extents and the image table: arithmetic without a model.
#include <catch2/catch_test_macros.hpp>
#include <random>
#include <vector>

#include "predictor/engine/image_table.h"
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

TEST_CASE("a pinned picture is never evicted, the least recently used one goes first",
          "[image-table]") {
  ImageTable table(2);
  const int32_t a = *table.Pin("a");
  table.SetEncoded(a, true);
  const int32_t b = *table.Pin("b");
  table.SetEncoded(b, true);
  CHECK(!table.Pin("c").has_value());  // both pinned
  table.Unpin(a);
  table.Unpin(b);
  CHECK(table.Pin("a") == a);  // a is now the more recent one
  CHECK(table.encoded(a));
  CHECK(table.Pin("c") == b);
  CHECK(!table.encoded(b));
  table.Unpin(a);
  table.Unpin(b);
  CHECK(table.pinned() == 0);
  CHECK(table.hits() == 1);
}

TEST_CASE("a picture that could not be encoded is forgotten", "[image-table]") {
  ImageTable table(1);
  const int32_t entry = *table.Pin("a");
  table.SetEncoded(entry, false);
  table.Unpin(entry);
  CHECK(table.Pin("a") == entry);
  CHECK(!table.encoded(entry));
  CHECK(table.hits() == 0);
}

}  // namespace
}  // namespace idefics
