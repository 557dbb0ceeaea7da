// SPDX-License-Identifier: Apache-2.0
#include "predictor/text/detokenizer.h"

#include <catch2/catch_test_macros.hpp>
#include <random>

#include "common/utf8.h"
#include "tests/text/vocabulary.h"

namespace idefics {
namespace {

using Ids = std::vector<int32_t>;

// docs/model.md#decoding, step by step over the whole sequence.
std::string ReferenceDecode(const Tokenizer& tokenizer, const Ids& ids, bool skip_special) {
  std::vector<TokenPiece> kept;
  for (const int32_t id : ids) {
    const TokenPiece piece = tokenizer.piece(id);
    const bool skipped = skip_special && piece.kind == TokenPiece::Kind::kSpecial;
    if (piece.kind != TokenPiece::Kind::kAbsent && !skipped) kept.push_back(piece);
  }
  std::string text;
  for (size_t i = 0; i < kept.size();) {
    std::string run;
    size_t end = i;
    for (; end < kept.size() && kept[end].kind == TokenPiece::Kind::kByte; ++end) {
      run += static_cast<char>(kept[end].byte);
    }
    if (end == i) {
      text += kept[i++].text;
      continue;
    }
    if (IsValidUtf8(run)) {
      text += run;
    } else {
      for (size_t k = i; k < end; ++k) text += "\uFFFD";
    }
    i = end;
  }
  return text.starts_with(' ') ? text.substr(1) : text;
}

Ids RandomIds(const Tokenizer& tokenizer, std::mt19937& random) {
  Ids ids;
  const size_t length = random() % 24;
  while (ids.size() < length) {
    switch (random() % 8) {
      case 0:
        ids.push_back(static_cast<int32_t>(random() % tokenizer.vocab_size()));
        break;
      case 1: {  // one of the special tokens, or no token at all
        const auto& all = tokenizer.special().all;
        const size_t which = random() % (all.size() + 1);
        ids.push_back(which < all.size() ? all[which].second : tokenizer.vocab_size() + 5);
        break;
      }
      case 2:
        ids.push_back(3 + static_cast<int32_t>(random() % 256));
        break;
      case 3:
        for (const int byte : {0xF0, 0x9F, 0x98, 0x80}) ids.push_back(3 + byte);
        break;
      case 4:
        ids.push_back(3 + 0xC3);
        ids.push_back(3 + 0xA9);
        break;
      case 5:
        ids.push_back(3 + '\n');
        break;
      case 6:
        ids.push_back(tokenizer.Encode(" ", SpecialText::kNone)[0]);
        break;
      default:
        ids.push_back(259 + static_cast<int32_t>(random() % (tokenizer.vocab_size() - 259)));
    }
  }
  return ids;
}

// Number of sequences whose pieces are wrong, of `count`.
int CountWrong(const Tokenizer& tokenizer, int count) {
  std::mt19937 random(7);
  int wrong = 0;
  for (int i = 0; i < count; ++i) {
    const Ids ids = RandomIds(tokenizer, random);
    for (const bool skip_special : {true, false}) {
      Detokenizer detokenizer(tokenizer, skip_special);
      std::string text;
      bool whole_characters = true;
      for (const int32_t id : ids) {
        const std::string piece = detokenizer.Push(id);
        whole_characters = whole_characters && IsValidUtf8(piece);
        text += piece;
      }
      text += detokenizer.Finish();
      wrong += !whole_characters || text != ReferenceDecode(tokenizer, ids, skip_special) ||
               text != tokenizer.Decode(ids, skip_special);
    }
  }
  return wrong;
}

TEST_CASE("streamed pieces are the decoded text of 20 000 random sequences", "[detokenizer]") {
  CHECK(CountWrong(*TinyTokenizer(), 20000) == 0);
  CHECK(CountWrong(*TinyTokenizer(false), 2000) == 0);
}

TEST_CASE("streamed pieces are the decoded text over the LLaMA vocabulary", "[detokenizer]") {
  const auto tokenizer = LlamaTokenizer();
  if (!tokenizer) SKIP(kNoLlamaTokenizer);
  CHECK(CountWrong(*tokenizer, 20000) == 0);
}

TEST_CASE("a character of several tokens comes out whole, after the token that ends its run",
          "[detokenizer]") {
  const auto tokenizer = TinyTokenizer();
  const int32_t cat = tokenizer->Encode("cat", SpecialText::kNone)[0];
  Detokenizer detokenizer(*tokenizer);
  CHECK(detokenizer.Push(cat) == "cat");
  for (const int byte : {0xF0, 0x9F, 0x98, 0x80}) CHECK(detokenizer.Push(3 + byte).empty());
  CHECK(detokenizer.Push(cat) == "😀 cat");
  CHECK(detokenizer.Push(3 + '\n').empty());
  CHECK(detokenizer.Finish() == "\n");
}

TEST_CASE("one wrong byte spoils its run, and a skipped special token does not end it",
          "[detokenizer]") {
  const auto tokenizer = TinyTokenizer();
  Detokenizer spoilt(*tokenizer);
  CHECK(spoilt.Push(3 + 0xC3).empty());
  CHECK(spoilt.Push(3 + '\n').empty());
  CHECK(spoilt.Finish() == "\uFFFD\uFFFD");
  Detokenizer skipped(*tokenizer);
  CHECK(skipped.Push(3 + 0xC3).empty());
  CHECK(skipped.Push(tokenizer->special().eos).empty());
  CHECK(skipped.Push(3 + 0xA9).empty());
  CHECK(skipped.Finish() == "é");
  Detokenizer kept(*tokenizer, false);
  CHECK(kept.Push(3 + 0xC3).empty());
  CHECK(kept.Push(tokenizer->special().eos) == "\uFFFD</s>");
}

TEST_CASE("one space is dropped, at the very start only", "[detokenizer]") {
  const auto tokenizer = TinyTokenizer();
  const int32_t space = tokenizer->Encode("\n", SpecialText::kNone)[0];
  const int32_t cat = tokenizer->Encode("cat", SpecialText::kNone)[0];
  Detokenizer detokenizer(*tokenizer);
  CHECK(detokenizer.Push(tokenizer->special().bos).empty());
  CHECK(detokenizer.Push(space).empty());
  CHECK(detokenizer.Push(space) == " ");
  CHECK(detokenizer.Push(cat) == " cat");
  Detokenizer byte_space(*tokenizer);
  CHECK(byte_space.Push(3 + ' ').empty());
  CHECK(byte_space.Push(cat) == " cat");
}

}  // namespace
}  // namespace idefics
