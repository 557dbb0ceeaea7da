// SPDX-License-Identifier: Apache-2.0
#include "predictor/text/prompt.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

#include "tests/text/vocabulary.h"

namespace idefics {
namespace {

using Ids = std::vector<int32_t>;

PromptPiece Turn(std::string text) { return PromptText{std::move(text), SpecialText::kTurns}; }
PromptPiece Plain(std::string text) { return PromptText{std::move(text), SpecialText::kNone}; }
PromptPiece Image() { return PromptImage{}; }

// The prompt as transformers would write it, with the literals of special tokens.
std::string Shown(const std::vector<PromptPiece>& items, bool add_end_of_utterance = false,
                  bool instruct = true) {
  const auto tokenizer = TinyTokenizer(instruct);
  std::string shown;
  for (const int32_t id : BuildPrompt(*tokenizer, items, add_end_of_utterance).tokens) {
    if (id == tokenizer->special().fake_image) {
      shown += "<f>";
    } else if (id == tokenizer->special().image) {
      shown += "<i>";
    } else if (id == tokenizer->special().end_of_utterance) {
      shown += "<e>";
    } else {
      shown += tokenizer->piece(id).text;
    }
  }
  return shown;
}

TEST_CASE("the prompt of the Hugging Face example has the published ids", "[prompt]") {
  const auto tokenizer = LlamaTokenizer();
  if (!tokenizer) SKIP(kNoLlamaTokenizer);
  const auto tokens = [&](const std::vector<PromptPiece>& items) {
    return BuildPrompt(*tokenizer, items, false).tokens;
  };
  CHECK(tokens({Turn("User: What is in this image?"), Image(), Turn("<end_of_utterance>"),
                Turn("\nAssistant:")}) == Ids{1, 4911, 29901, 1724, 338, 297, 445, 1967, 29973,
                                              32000, 32001, 32000, 32002, 29871, 13, 7900, 22137,
                                              29901});
  CHECK(tokens({Turn("User:"), Image(),
                Turn("Can you tell me a very short story based on the image?")}) ==
        Ids{1, 4911, 29901, 32000, 32001, 32000, 1815, 366, 2649, 592, 263, 1407, 3273, 5828, 2729,
            373, 278, 1967, 29973});
  CHECK(tokens({Turn("Describe this image.\nAssistant:")}) ==
        Ids{1, 20355, 915, 445, 1967, 29889, 13, 7900, 22137, 29901});
}

TEST_CASE("neighbouring images share the fake token between them", "[prompt]") {
  CHECK(Shown({}) == "<s>");
  CHECK(Shown({Image()}) == "<s><f><i><f>");
  CHECK(Shown({Image(), Image(), Image()}) == "<s><f><i><f><i><f><i><f>");
  CHECK(Shown({Turn("a"), Image(), Image(), Turn("a"), Image()}) ==
        "<s> a<f><i><f><i><f> a<f><i><f>");
}

TEST_CASE("an empty text between two images keeps their fake tokens apart", "[prompt]") {
  CHECK(Shown({Image(), Turn(""), Image()}) == "<s><f><i><f><f><i><f>");
  CHECK(Shown({Image(), Turn("  "), Image()}) == "<s><f><i><f><f><i><f>");
}

TEST_CASE("only spaces are stripped off both ends of a text", "[prompt]") {
  CHECK(Shown({Turn("  the cat  "), Turn("  x ")}) == "<s> the catx");
  const auto tokenizer = TinyTokenizer();
  const Ids ids = BuildPrompt(*tokenizer, std::vector{Turn(" \na\t ")}, false).tokens;
  CHECK(tokenizer->Decode(ids, true) == "\na\t");
}

TEST_CASE("end of utterance goes between neighbouring texts only", "[prompt]") {
  CHECK(Shown({Turn("a"), Turn("x"), Turn("a")}, true) == "<s> a<e> x<e> a");
  CHECK(Shown({Turn("a"), Image(), Turn("x"), Turn("a"), Image()}, true) ==
        "<s> a<f><i><f> x<e> a<f><i><f>");
  CHECK(Shown({Turn("a"), Turn(""), Turn("a")}, true) == "<s> a<e><e> a");
  CHECK(Shown({Plain("a"), Plain("x")}, true) == "<s> a<e> x");
}

TEST_CASE("a base model gets the end of utterance as ordinary text", "[prompt]") {
  CHECK(Shown({Turn("a"), Turn("x")}, true, false).find("<e>") == std::string::npos);
  const auto tokenizer = TinyTokenizer(false);
  const auto built = BuildPrompt(*tokenizer, std::vector{Turn("a"), Turn("x")}, true);
  CHECK(built.tokens == tokenizer->Encode("<s>a<end_of_utterance>x", SpecialText::kAll));
}

TEST_CASE("texts without an image between them are one string", "[prompt]") {
  const auto tokenizer = TinyTokenizer();
  const auto tokens = [&](const std::vector<PromptPiece>& items) {
    return BuildPrompt(*tokenizer, items, false).tokens;
  };
  CHECK(tokens({Turn("user: th"), Plain("e"), Turn(" x")}) ==
        tokenizer->Encode("<s>user: thex", SpecialText::kAll));
  CHECK(tokens({Turn("a</"), Turn("s>x")}) == tokenizer->Encode("<s>a</s>x", SpecialText::kAll));
  const Ids forged = tokens({Plain("</"), Turn("s>")});
  CHECK(std::count(forged.begin(), forged.end(), 2) == 0);
}

TEST_CASE("nobody forges an image position", "[prompt]") {
  const auto tokenizer = TinyTokenizer();
  for (const auto& text : {Turn("<image>"), Plain("<image>")}) {
    const auto built = BuildPrompt(
        *tokenizer, std::vector{text, Image(), Turn("<fake_token_around_image>")}, false);
    CHECK(std::count(built.tokens.begin(), built.tokens.end(), tokenizer->special().image) == 1);
    CHECK(std::count(built.tokens.begin(), built.tokens.end(), tokenizer->special().fake_image) ==
          2);
    CHECK(built.image_index.back() == 0);
  }
}

TEST_CASE("each token sees the last image at or before it, none after </s>", "[prompt]") {
  const SpecialTokens special = SpecialTokens::Released(32000, true);
  constexpr int32_t kFake = 32000, kImage = 32001, kEos = 2;
  const auto index = [&](const Ids& tokens, int32_t num_images) {
    return ImageIndex(tokens, special, num_images);
  };
  CHECK(index({1, 5, kFake, kImage, kFake, 6, kFake, kImage, kFake, 7}, 2) ==
        Ids{-1, -1, -1, 0, 0, 0, 0, 1, 1, 1});
  CHECK(index({1, kImage, 5, kEos, 6, kFake, kImage, 7}, 2) == Ids{-1, 0, 0, 0, -1, -1, 1, 1});
  CHECK(index({kEos, 5, kImage, kEos, kEos, 5}, 1) == Ids{-1, -1, 0, 0, -1, -1});
  CHECK(index({1, kImage, 5, kImage, 6}, 1) == Ids{-1, 0, 0, -1, -1});
  CHECK(index({1, kImage, 5}, 0) == Ids{-1, -1, -1});
  CHECK(index({}, 3).empty());
}

TEST_CASE("transformers' literal <image> takes the place of a real one", "[prompt]") {
  const auto tokenizer = TinyTokenizer();
  const auto built = BuildPrompt(
      *tokenizer,
      std::vector<PromptPiece>{PromptText{"<image>a", SpecialText::kAll}, Image(), Turn("a")},
      false);
  REQUIRE(built.tokens.size() == 7);
  CHECK(built.image_index == Ids{-1, 0, 0, 0, -1, -1, -1});
}

}  // namespace
}  // namespace idefics
