// SPDX-License-Identifier: Apache-2.0
#include "predictor/text/stop_matcher.h"

#include <catch2/catch_test_macros.hpp>
#include <random>

#include "common/utf8.h"

namespace idefics {
namespace {

struct Outcome {
  std::string text;
  bool matched = false;
  bool operator==(const Outcome&) const = default;
};

// By search over the whole text: the stop that ends first, the longest of those.
Outcome Reference(const std::string& text, const std::vector<std::string>& stops) {
  size_t best_end = std::string::npos, best_begin = 0;
  for (const std::string& stop : stops) {
    const size_t begin = stop.empty() ? std::string::npos : text.find(stop);
    if (begin == std::string::npos) continue;
    const size_t end = begin + stop.size();
    if (end < best_end || (end == best_end && begin < best_begin)) {
      best_end = end;
      best_begin = begin;
    }
  }
  if (best_end == std::string::npos) return {text, false};
  return {text.substr(0, best_begin), true};
}

TEST_CASE("what comes out does not depend on how the text was cut", "[stop]") {
  std::mt19937 random(11);
  const std::vector<std::string> alphabet = {"a", "b", "a", "é", "è", "\n", "😀"};
  size_t num_letters = 7;  // with two, stop strings repeat themselves
  const auto word = [&](size_t max_length) {
    std::string text;
    for (size_t i = random() % (max_length + 1); i > 0; --i)
      text += alphabet[random() % num_letters];
    return text;
  };
  int num_matched = 0;
  for (int round = 0; round < 20000; ++round) {
    num_letters = round % 2 == 0 ? 7 : 2;
    const std::string text = word(60);
    std::vector<std::string> stops;
    for (size_t i = random() % 4; i > 0; --i) stops.push_back(word(9));
    StopMatcher matcher(stops);
    Outcome outcome;
    bool whole_characters = true;
    for (size_t at = 0; at < text.size();) {
      size_t end = at + 1 + random() % 6;
      while (end < text.size() && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) ++end;
      const std::string piece = matcher.Push(std::string_view(text).substr(at, end - at));
      whole_characters = whole_characters && IsValidUtf8(piece);
      outcome.text += piece;
      at = end;
    }
    outcome.text += matcher.Finish();
    outcome.matched = matcher.matched();
    num_matched += outcome.matched;
    if (outcome != Reference(text, stops) || !whole_characters) {
      FAIL("text '" << text << "', got '" << outcome.text << "'");
    }
  }
  CHECK(num_matched > 5000);
}

TEST_CASE("a possible start of a stop string is held back, nothing more", "[stop]") {
  StopMatcher matcher({"\nUser:", "stop"});
  CHECK(matcher.Push("hello st") == "hello ");
  CHECK(matcher.Push("ar\n") == "star");
  CHECK(matcher.Push("Us").empty());
  CHECK(matcher.Push("ing s") == "\nUsing ");
  CHECK(matcher.Push("top it").empty());
  CHECK(matcher.matched());
  CHECK(matcher.Push("more").empty());
  CHECK(matcher.Finish().empty());
}

TEST_CASE("the end of the text gives back what was held", "[stop]") {
  StopMatcher matcher({"stop"});
  CHECK(matcher.Push("sto").empty());
  CHECK(matcher.Finish() == "sto");
  CHECK_FALSE(matcher.matched());
}

TEST_CASE("the stop string that is complete first wins, then the longest", "[stop]") {
  StopMatcher inner({"abcd", "bc"});
  CHECK(inner.Push("xabcd") == "xa");
  StopMatcher longest({"c", "abc"});
  CHECK(longest.Push("xabc") == "x");
}

TEST_CASE("the text ends after the stop string where that is asked for", "[stop]") {
  StopMatcher matcher({"abcd", "bc"}, /*include=*/true);
  CHECK(matcher.Push("xab") == "x");
  CHECK(matcher.Push("cdx") == "abc");
  CHECK(matcher.matched());
  CHECK(matcher.Finish().empty());
}

TEST_CASE("no stop strings, or only empty ones, hold nothing back", "[stop]") {
  StopMatcher none({});
  CHECK(none.Push("text") == "text");
  StopMatcher empty({"", ""});
  CHECK(empty.Push("text") == "text");
  CHECK_FALSE(empty.matched());
}

TEST_CASE("a long stop string of one letter costs linear time", "[stop]") {
  StopMatcher matcher({std::string(100000, 'a') + "b"});
  size_t shown = 0;
  for (int i = 0; i < 200; ++i) shown += matcher.Push(std::string(5000, 'a')).size();
  CHECK(shown == 900000);
  CHECK(matcher.Push("b").empty());
  CHECK(matcher.matched());
}

}  // namespace
}  // namespace idefics
