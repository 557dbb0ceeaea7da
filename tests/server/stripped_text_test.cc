// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/stripped_text.h"

#include <catch2/catch_test_macros.hpp>

namespace idefics {
namespace {

std::string Streamed(const std::vector<std::string>& pieces) {
  std::string out;
  StrippedText stripped([&](std::string_view piece) { out += piece; });
  for (const std::string& piece : pieces) stripped.Add(piece);
  return out;
}

TEST_CASE("text is stripped as Python's str.strip does it", "[jobs]") {
  CHECK(Streamed({" \n a b\t "}) == "a b");
  CHECK(Streamed({"\u00a0\u3000x\u2003\x1c"}) == "x");
  CHECK(Streamed({"\u200bx"}) == "\u200bx");  // no white space in Python
  CHECK(Streamed({""}).empty());
  CHECK(Streamed({" \n"}).empty());
}

TEST_CASE("streamed pieces give the stripped whole and never more", "[jobs]") {
  CHECK(Streamed({" ", "\n", " A", " ", "dog", " ", ".", " \n"}) == "A dog .");
  CHECK(Streamed({"a ", " ", "b"}) == "a  b");
  CHECK(Streamed({" ", " "}).empty());
  CHECK(Streamed({}).empty());
  CHECK(Streamed({" 日", "本 ", "語\u3000"}) == "日本 語");
}

}  // namespace
}  // namespace idefics
