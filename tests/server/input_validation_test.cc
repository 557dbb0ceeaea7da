// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/input_validation.h"

#include <catch2/catch_test_macros.hpp>
#include <limits>
#include <nlohmann/json.hpp>

#include "server/api/cog/schema_check.h"

namespace idefics {
namespace {

using nlohmann::json;

// Messages, each as "field: text".
std::vector<std::string> Errors(json input, InputOrigin origin = InputOrigin::kHttp) {
  std::vector<std::string> found;
  for (const FieldError& error : ValidateInput(input, origin).errors) {
    found.push_back(error.path.at(1) + ": " + error.message);
  }
  return found;
}

std::vector<std::string> ErrorsWith(const std::string& name, json value,
                                    InputOrigin origin = InputOrigin::kHttp) {
  json input = {{"image", "https://x.org/a.png"}, {"text", "hi"}};
  input[name] = std::move(value);
  return Errors(input, origin);
}

using Texts = std::vector<std::string>;

TEST_CASE("an input without image and text gets one entry for each", "[cog]") {
  CHECK(Errors(json::object()) == Texts{"image: Field required", "text: Field required"});
  CHECK(ValidateInput(json::object(), InputOrigin::kHttp).errors[0].type == "value_error.missing");
  CHECK(Errors({{"text", "hi"}}) == Texts{"image: Field required"});
  CHECK(Errors({{"prompt", {"hi"}}}).empty());
}

TEST_CASE("prompt beside image or text is refused, not silently preferred", "[cog]") {
  const auto errors = Errors({{"prompt", {"hi"}}, {"text", "hi"}});
  REQUIRE(errors.size() == 1);
  CHECK(errors[0].find("text: cannot be combined with prompt") == 0);
}

TEST_CASE("an input that is no object is named __root__", "[cog]") {
  CHECK(Errors(json::array()) == Texts{"__root__: [] is not of type \"object\""});
}

TEST_CASE("limits are inclusive and told in coglet's words", "[cog]") {
  CHECK(ErrorsWith("max_new_tokens", 7) ==
        Texts{"max_new_tokens: 7 is less than the minimum of 8"});
  CHECK(ErrorsWith("max_new_tokens", 8).empty());
  CHECK(ErrorsWith("max_new_tokens", 1024).empty());
  CHECK(ErrorsWith("max_new_tokens", 1025) ==
        Texts{"max_new_tokens: 1025 is greater than the maximum of 1024"});
  CHECK(ErrorsWith("repetition_penalty", 0).size() == 1);
  CHECK(ErrorsWith("repetition_penalty", 0.01).empty());
  CHECK(ErrorsWith("repetition_penalty", 5).empty());
  CHECK(ErrorsWith("repetition_penalty", 5.01) ==
        Texts{"repetition_penalty: 5.01 is greater than the maximum of 5"});
  CHECK(ErrorsWith("temperature", -0.1).size() == 1);
  CHECK(ErrorsWith("temperature", 0).empty());
  CHECK(ErrorsWith("top_p", 1).size() == 1);
  CHECK(ErrorsWith("top_p", 0.99).empty());
}

TEST_CASE("an answer lists a hundred violations, not one for each of a million items", "[cog]") {
  const json wrong(250, "x");
  CHECK(ErrorsWith("bad_words_ids", json(2, wrong)).size() == kMaxViolations);
  CHECK(ErrorsWith("prompt", json(1000, 1)).size() <= kMaxViolations + 2);
}

TEST_CASE("what a message shows of a value costs what is shown", "[cog]") {
  const std::string text(1 << 20, '\x01');
  const auto errors = ErrorsWith("max_new_tokens", {{"key", text}, {"other", text}});
  REQUIRE(errors.size() == 1);
  CHECK(errors[0].rfind("max_new_tokens: {\"key\":\"\\u0001\\u0001", 0) == 0);
  CHECK(errors[0].size() < 300);
}

TEST_CASE("lists that every step of the engine looks at are bounded", "[cog]") {
  CHECK(ErrorsWith("eos_token_id", json(64, 1)).empty());
  CHECK(ErrorsWith("eos_token_id", json(65, 1)).size() == 1);
  CHECK(ErrorsWith("bad_words_ids", json::array({json(256, 1)})).empty());
  CHECK(ErrorsWith("bad_words_ids", json::array({json(257, 1)})).size() == 1);
  CHECK(ErrorsWith("bad_words_ids", json(195, json(256, 1))).empty());
  CHECK(ErrorsWith("bad_words_ids", json(196, json(256, 1))) ==
        Texts{"bad_words_ids: its lists have 50176 ids together, more than 50000"});
}

TEST_CASE("types are strict, but 16.0 is an integer and reaches the engine as one", "[cog]") {
  CHECK(ErrorsWith("max_new_tokens", "16") ==
        Texts{"max_new_tokens: \"16\" is not of type \"integer\""});
  CHECK(ErrorsWith("max_new_tokens", 16.5).size() == 1);
  CHECK(ErrorsWith("max_new_tokens", true).size() == 1);
  CHECK(ErrorsWith("max_new_tokens", nullptr) ==
        Texts{"max_new_tokens: null is not of type \"integer\""});
  CHECK(ErrorsWith("text", 5) == Texts{"text: 5 is not of type \"string\""});
  const auto valid = ValidateInput(
      {{"prompt", {"x"}}, {"max_new_tokens", 16.0}, {"eos_token_id", {2.0}}}, InputOrigin::kHttp);
  REQUIRE(valid.errors.empty());
  CHECK(valid.values["max_new_tokens"].is_number_integer());
  CHECK(valid.values["max_new_tokens"] == 16);
  CHECK(valid.values["eos_token_id"][0].is_number_integer());
}

TEST_CASE("a choice outside the list is told with the list; a wrong type adds an entry", "[cog]") {
  CHECK(ErrorsWith("decoding_strategy", "Beam") ==
        Texts{"decoding_strategy: \"Beam\" is not one of [\"Greedy\",\"Top P Sampling\"]"});
  CHECK(ErrorsWith("decoding_strategy", "greedy").size() == 1);
  CHECK(ErrorsWith("decoding_strategy", nullptr).size() == 2);
}

TEST_CASE("items of lists are named by their place", "[cog]") {
  CHECK(Errors({{"prompt", {"a", 5}}}) == Texts{"prompt/1: 5 is not of type \"string\""});
  CHECK(Errors({{"prompt", json::array()}}) == Texts{"prompt: [] has less than 1 item"});
  CHECK(ErrorsWith("bad_words_ids", {{1}, json::array()}) ==
        Texts{"bad_words_ids/1: [] has less than 1 item"});
  CHECK(ErrorsWith("bad_words_ids", {{1, "x"}}) ==
        Texts{"bad_words_ids/0/1: \"x\" is not of type \"integer\""});
}

TEST_CASE("an input of several shapes takes each of them and nothing else", "[cog]") {
  CHECK(ErrorsWith("eos_token_id", 2).empty());
  CHECK(ErrorsWith("eos_token_id", {2, 3}).empty());
  CHECK(ErrorsWith("eos_token_id", "2") ==
        Texts{"eos_token_id: \"2\" is not valid under any of the schemas listed in the 'anyOf' "
              "keyword"});
  CHECK(ErrorsWith("early_stopping", "never").empty());
  CHECK(ErrorsWith("early_stopping", true).empty());
  CHECK(ErrorsWith("early_stopping", "always").size() == 1);
}

TEST_CASE("an image is a URL or a data URI, and never a path", "[cog]") {
  CHECK(ErrorsWith("image", "data:image/png;base64,AA==").empty());
  for (const char* bad : {"foo.jpg", "/etc/passwd", "file:///etc/passwd", "ftp://x/a.png", ""}) {
    INFO(bad);
    CHECK(ErrorsWith("image", bad).size() == 1);
  }
  CHECK(ErrorsWith("image", "file:a.png", InputOrigin::kCommandLine).empty());
}

TEST_CASE("the command line may ask for a single token", "[cog]") {
  CHECK(ErrorsWith("max_new_tokens", 1, InputOrigin::kCommandLine).empty());
  CHECK(ErrorsWith("max_new_tokens", 0, InputOrigin::kCommandLine).size() == 1);
}

TEST_CASE("defaults are filled in and unknown keys dropped", "[cog]") {
  const auto valid =
      ValidateInput({{"prompt", {"x"}}, {"max_tokens", 5}, {"temprature", 1}}, InputOrigin::kHttp);
  CHECK(valid.errors.empty());
  CHECK(valid.dropped == Texts{"max_tokens", "temprature"});
  CHECK(valid.values["max_new_tokens"] == 512);
  CHECK(valid.values["temperature"] == 0.4);
  CHECK(valid.values["top_p"] == 0.8);
  CHECK(valid.values["decoding_strategy"] == "Greedy");
  CHECK_FALSE(valid.values.contains("seed"));
  CHECK_FALSE(valid.values.contains("max_tokens"));
}

TEST_CASE("a 64-bit seed is compared exactly", "[cog]") {
  CHECK(ErrorsWith("seed", 9223372036854775807LL).empty());
  CHECK(ErrorsWith("seed", 9223372036854775808ULL).size() == 1);
  CHECK(ErrorsWith("seed", -1).size() == 1);
}

TEST_CASE("a message shows a long value only in part and stays valid UTF-8", "[cog]") {
  const auto errors = ErrorsWith("max_new_tokens", std::string(1000, 'x') + "é");
  REQUIRE(errors.size() == 1);
  CHECK(errors[0].size() < 300);
  std::string accents;
  for (int i = 0; i < 300; ++i) accents += "é";
  const ValidatedInput valid =
      ValidateInput({{"text", "a"}, {"image", "data:,"}, {"top_p", accents}}, InputOrigin::kHttp);
  CHECK_NOTHROW(json(valid.errors.at(0).message).dump());  // cut between two characters
}

}  // namespace
TEST_CASE("a whole number beyond 64 bits is the largest integer", "[input]") {
  const auto valid =
      ValidateInput({{"prompt", {"hi"}}, {"eos_token_id", 2.501e22}, {"bad_words_ids", {{1e300}}}},
                    InputOrigin::kHttp);
  REQUIRE(valid.errors.empty());
  CHECK(valid.values["eos_token_id"] == std::numeric_limits<int64_t>::max());
  CHECK(valid.values["bad_words_ids"][0][0] == std::numeric_limits<int64_t>::max());
}

}  // namespace idefics
