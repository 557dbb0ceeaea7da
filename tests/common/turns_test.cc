// SPDX-License-Identifier: Apache-2.0
#include "common/turns.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <vector>

namespace idefics {
namespace {

// Takes the turn of whoever is next.
std::string Next(Turns& turns, const std::vector<std::string>& waiting) {
  const std::string next = *std::min_element(
      waiting.begin(), waiting.end(),
      [&](const auto& a, const auto& b) { return turns.LastOf(a) < turns.LastOf(b); });
  turns.Take(next);
  return next;
}

TEST_CASE("who joins stands behind all but the one that had the last turn", "[turns]") {
  Turns turns;
  for (const char* client : {"a", "b"}) turns.Join(client);
  CHECK(Next(turns, {"a", "b"}) == "a");
  turns.Join("c");
  turns.Join("b");  // which waits already
  CHECK(Next(turns, {"a", "b", "c"}) == "b");
  CHECK(Next(turns, {"a", "b", "c"}) == "c");
  CHECK(Next(turns, {"a", "b", "c"}) == "a");
}

TEST_CASE("who left is new when it comes again", "[turns]") {
  Turns turns;
  for (const char* client : {"a", "b", "c"}) turns.Join(client);
  turns.LeaveUnless([](const std::string& client) { return client != "a"; });
  CHECK(Next(turns, {"b", "c"}) == "b");
  turns.Leave("c");
  turns.Join("a");
  turns.Join("c");
  CHECK(Next(turns, {"a", "b", "c"}) == "a");
  CHECK(Next(turns, {"b", "c"}) == "c");
}

TEST_CASE("a turn that was taken back has not been", "[turns]") {
  Turns turns;
  for (const char* client : {"a", "b"}) turns.Join(client);
  turns.TakeBack("a", turns.Take("a"));
  turns.Join("c");
  CHECK(Next(turns, {"a", "b", "c"}) == "a");
  CHECK(Next(turns, {"b", "c"}) == "b");
}

}  // namespace
}  // namespace idefics
