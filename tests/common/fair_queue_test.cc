// SPDX-License-Identifier: Apache-2.0
#include "common/fair_queue.h"

#include <catch2/catch_test_macros.hpp>
#include <random>
#include <set>

namespace idefics {
namespace {

std::string Client(std::mt19937& random, unsigned count) {
  return std::string(1, static_cast<char>('a' + random() % count));
}

using Held = std::map<std::string, int>;

std::string Next(FairQueue<std::string>& queue, Held held = {}) {
  return queue.Take([&](const std::string& client) { return held[client]; }).item;
}

TEST_CASE("clients have turns; a client's own items go in order of arrival", "[fair-queue]") {
  FairQueue<std::string> queue;
  for (const char* item : {"a1", "a2", "a3", "a4"}) queue.Push("a", item);
  CHECK(queue.longest_line() == 4);
  CHECK(Next(queue) == "a1");
  queue.Push("z", "z1");  // before the one that had the last turn, whatever they are called
  queue.Push("b", "b1");
  queue.Push("b", "b2");
  CHECK(Next(queue) == "z1");
  CHECK(Next(queue) == "b1");
  CHECK(Next(queue) == "a2");
  CHECK(Next(queue) == "b2");
  CHECK(Next(queue) == "a3");
  CHECK(queue.NumOf("a") == 1);
  CHECK(queue.NumOf("b") == 0);
  CHECK(Next(queue) == "a4");
  CHECK(queue.empty());
}

TEST_CASE("whoever holds least is next", "[fair-queue]") {
  FairQueue<std::string> queue;
  for (const char* item : {"a1", "a2"}) queue.Push("a", item);
  queue.Push("b", "b1");
  CHECK(Next(queue, {{"a", 8}, {"b", 1}}) == "b1");
  CHECK(Next(queue, {{"a", 8}}) == "a1");
}

TEST_CASE("what was put back is next again", "[fair-queue]") {
  FairQueue<std::string> queue;
  for (const char* item : {"a1", "a2"}) queue.Push("a", item);
  queue.Push("b", "b1");
  const auto none = [](const std::string&) { return 0; };
  queue.PutBack(queue.Take(none));
  CHECK(queue.size() == 3);
  CHECK(Next(queue) == "a1");
  for (int i = 0; i < 5; ++i) queue.PutBack(queue.Take(none));  // b's only one
  queue.Push("c", "c1");                                        // no turn has passed since a's
  CHECK(Next(queue) == "b1");
  CHECK(Next(queue) == "c1");
  CHECK(Next(queue) == "a2");
}

TEST_CASE("what is taken out of turn leaves the others in theirs", "[fair-queue]") {
  FairQueue<std::string> queue;
  for (const char* item : {"a1", "drop", "a2"}) queue.Push("a", item);
  queue.Push("b", "drop");
  const auto dropped = queue.TakeIf([](const std::string& item) { return item == "drop"; });
  CHECK(dropped.size() == 2);
  CHECK(queue.size() == 2);
  CHECK(Next(queue) == "a1");
  CHECK(Next(queue) == "a2");
  CHECK(queue.empty());
}

TEST_CASE("however many others wait and come, nobody is passed over by a client twice",
          "[fair-queue]") {
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    FairQueue<std::string> queue;
    for (int i = 0; i < 40; ++i) queue.Push(Client(random, 6), "other");
    for (int i = static_cast<int>(random() % 20); i > 0; --i) (void)Next(queue);
    queue.Push("mine", "mine");
    std::multiset<std::string> before;
    for (bool mine = false; !mine;) {
      queue.Push(Client(random, 26), "other");
      const auto taken = queue.Take([](const std::string&) { return 0; });
      mine = taken.item == "mine";
      if (!mine) before.insert(taken.client);
    }
    for (const std::string& client : before) REQUIRE(before.count(client) == 1);
  }
}

}  // namespace
}  // namespace idefics
