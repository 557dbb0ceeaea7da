// SPDX-License-Identifier: Apache-2.0
#include "server/cog/answer_text.h"

#include <catch2/catch_test_macros.hpp>

namespace idefics {
namespace {

std::string Streamed(const std::vector<std::string>& pieces) {
  std::string out;
  StrippingEmitter emitter([&](std::string_view piece) { out += piece; });
  for (const std::string& piece : pieces) emitter.Add(piece);
  return out;
}

TEST_CASE("text is stripped as Python's str.strip does it", "[cog]") {
  CHECK(PythonStrip(" \n a b\t ") == "a b");
  CHECK(PythonStrip("\u00a0\u3000x\u2003\x1c") == "x");
  CHECK(PythonStrip("\u200bx") == "\u200bx");  // no white space in Python
  CHECK(PythonStrip("").empty());
  CHECK(PythonStrip(" \n").empty());
}

TEST_CASE("streamed pieces give the stripped whole and never more", "[cog]") {
  CHECK(Streamed({" ", "\n", " A", " ", "dog", " ", ".", " \n"}) == "A dog .");
  CHECK(Streamed({"a ", " ", "b"}) == "a  b");
  CHECK(Streamed({" ", " "}).empty());
  CHECK(Streamed({}).empty());
  CHECK(Streamed({" 日", "本 ", "語\u3000"}) == "日本 語");
}

}  // namespace
}  // namespace idefics
