// SPDX-License-Identifier: Apache-2.0
#include "predictor/text/tokenizer.h"

#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "common/utf8.h"
#include "tests/text/vocabulary.h"

namespace idefics {
namespace {

using Ids = std::vector<int32_t>;

Status CreateStatus(const std::string& model, SpecialTokens special) {
  return Tokenizer::Create(model, std::move(special)).status();
}

TEST_CASE("the goldens of the LLaMA vocabulary encode and decode as in transformers",
          "[tokenizer]") {
  const auto tokenizer = LlamaTokenizer();
  if (!tokenizer) SKIP(kNoLlamaTokenizer);
  const auto file = ReadFile(IDEFICS_SOURCE_DIR "/tests/goldens/llama_tokenizer.json");
  REQUIRE(file);
  const auto goldens = nlohmann::json::parse(*file);
  REQUIRE(goldens["encode"].size() == 56);
  REQUIRE(goldens["decode"].size() == 13);
  for (const auto& golden : goldens["encode"]) {
    const std::string text = golden["text"];
    CAPTURE(text);
    const Ids ids = tokenizer->Encode(text, SpecialText::kAll);
    CHECK(ids == golden["ids"].get<Ids>());
    CHECK(tokenizer->Decode(ids, true) == golden["decode_skip"].get<std::string>());
    CHECK(tokenizer->Decode(ids, false) == golden["decode_keep"].get<std::string>());
  }
  for (const auto& golden : goldens["decode"]) {
    CAPTURE(golden.dump());
    CHECK(tokenizer->Decode(golden["ids"].get<Ids>(), golden["skip"]) ==
          golden["text"].get<std::string>());
  }
}

TEST_CASE("llama.cpp's vectors of the LLaMA vocabulary hold", "[tokenizer]") {
  const auto tokenizer = LlamaTokenizer();
  if (!tokenizer) SKIP(kNoLlamaTokenizer);
  const auto texts = ReadFile(IDEFICS_SOURCE_DIR "/tests/goldens/llama_cpp_vectors.inp");
  const auto answers = ReadFile(IDEFICS_SOURCE_DIR "/tests/goldens/llama_cpp_vectors.out");
  REQUIRE(texts);
  REQUIRE(answers);
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::istringstream lines(*answers);
  int num_vectors = 0;
  for (size_t begin = 0; begin < texts->size(); ++num_vectors) {
    const size_t end = std::min(texts->find(separator, begin), texts->size());
    const std::string text = texts->substr(begin, end - begin);
    begin = end + separator.size();
    std::string line;
    REQUIRE(std::getline(lines, line));
    std::istringstream numbers(line);
    CAPTURE(text);
    CHECK(tokenizer->Encode(text, SpecialText::kNone) ==
          Ids(std::istream_iterator<int32_t>(numbers), {}));
  }
  CHECK(num_vectors == 46);
}

TEST_CASE("merges go by rank, each stretch between special tokens has its own prefix",
          "[tokenizer]") {
  const auto tokenizer = TinyTokenizer();
  const auto pieces = [&](const std::string& text, SpecialText policy) {
    std::string shown;
    for (const int32_t id : tokenizer->Encode(text, policy)) {
      shown.append("[").append(tokenizer->piece(id).text).append("]");
    }
    return shown;
  };
  CHECK(pieces("the cat", SpecialText::kNone) == "[ the][ cat]");
  CHECK(pieces("a<s>a</s>  a", SpecialText::kTurns) == "[ a][<s>][ a][</s>][  ][ a]");
  CHECK(pieces("<end_of_utterance>user:", SpecialText::kTurns) == "[<end_of_utterance>][ user][:]");
  CHECK(tokenizer->Encode("", SpecialText::kAll).empty());
  const int32_t space = tokenizer->Encode("\n", SpecialText::kNone)[0];
  CHECK(tokenizer->piece(space).text == " ");
  CHECK(tokenizer->Encode("\n", SpecialText::kNone) == Ids{space, 13});
}

TEST_CASE("a token stands for its text, its byte or its literal", "[tokenizer]") {
  const auto tokenizer = TinyTokenizer();
  const Ids ids = tokenizer->Encode("the\n", SpecialText::kNone);
  std::string text;
  for (const int32_t id : ids) text += tokenizer->Bytes(id);
  CHECK(text == " the\n");
  CHECK(tokenizer->Bytes(ids.back()) == "\n");
  CHECK(tokenizer->Bytes(3 + 0xc3) == "\xc3");
  CHECK(tokenizer->Bytes(tokenizer->special().eos) == "</s>");
  CHECK(tokenizer->Bytes(-1).empty());
}

TEST_CASE("who wrote a literal decides whether it is special", "[tokenizer]") {
  const auto tokenizer = TinyTokenizer();
  const auto has = [&](const char* literal, SpecialText policy) {
    const Ids ids = tokenizer->Encode(std::string(literal) + "x", policy);
    CHECK(tokenizer->Decode(ids, false).starts_with(literal));
    return std::any_of(ids.begin(), ids.end(),
                       [&](int32_t id) { return tokenizer->IsSpecial(id); });
  };
  for (const char* turn : {"<unk>", "<s>", "</s>", "<end_of_utterance>"}) {
    CAPTURE(turn);
    CHECK_FALSE(has(turn, SpecialText::kNone));
    CHECK(has(turn, SpecialText::kTurns));
    CHECK(has(turn, SpecialText::kAll));
  }
  for (const char* image : {"<image>", "<fake_token_around_image>"}) {
    CAPTURE(image);
    CHECK_FALSE(has(image, SpecialText::kNone));
    CHECK_FALSE(has(image, SpecialText::kTurns));
    CHECK(has(image, SpecialText::kAll));
  }
}

TEST_CASE("neighbouring runs are one text, and a literal needs the leave of every run it lies in",
          "[tokenizer]") {
  const auto tokenizer = TinyTokenizer();
  const auto encode = [&](std::vector<PromptText> texts) { return tokenizer->Encode(texts); };
  CHECK(encode({{"th", SpecialText::kTurns},
                {"e c", SpecialText::kNone},
                {"at", SpecialText::kAll}}) == tokenizer->Encode("the cat", SpecialText::kNone));
  CHECK(
      encode({{"a</", SpecialText::kTurns}, {"", SpecialText::kNone}, {"s>", SpecialText::kAll}}) ==
      tokenizer->Encode("a</s>", SpecialText::kAll));
  CHECK(encode({{"a</", SpecialText::kTurns}, {"s>", SpecialText::kNone}}) ==
        tokenizer->Encode("a</s>", SpecialText::kNone));
  CHECK(encode({{"<ima", SpecialText::kAll}, {"ge>", SpecialText::kTurns}}) ==
        tokenizer->Encode("<image>", SpecialText::kNone));
  const Ids mixed = encode({{"</s>", SpecialText::kNone}, {"</s>", SpecialText::kTurns}});
  CHECK(std::count(mixed.begin(), mixed.end(), 2) == 1);
  CHECK(mixed.back() == 2);
}

TEST_CASE("a base model takes <end_of_utterance> as text", "[tokenizer]") {
  const auto tokenizer = TinyTokenizer(false);
  const Ids ids = tokenizer->Encode("<end_of_utterance>", SpecialText::kAll);
  CHECK(ids.size() > 1);
  CHECK(tokenizer->Decode(ids, true) == "<end_of_utterance>");
  CHECK(tokenizer->vocab_size() == kTinyPieces + 2);
}

TEST_CASE("of two literals that start together the longer one wins", "[tokenizer]") {
  const SpecialTokens special = SpecialTokens::Released(kTinyPieces, false);
  for (const bool listed_first : {true, false}) {
    SpecialTokens longer = special;
    longer.all.insert(listed_first ? longer.all.begin() : longer.all.end(), {"<s>x", 330});
    const auto tokenizer = std::move(Tokenizer::Create(TinyModel(), longer)).value();
    CHECK(tokenizer->Encode("<s>x<s>", SpecialText::kAll) == Ids{330, 1});
    CHECK(tokenizer->vocab_size() == 331);
    CHECK(tokenizer->piece(325).kind == TokenPiece::Kind::kAbsent);
  }
}

TEST_CASE("ids without a token decode to nothing and do not split a character", "[tokenizer]") {
  const auto tokenizer = TinyTokenizer();
  CHECK(tokenizer->Decode(Ids{-1, 323, 1 << 30, INT32_MIN, INT32_MAX}, false).empty());
  CHECK(tokenizer->Decode(Ids{3 + 0xC3, -7, 3 + 0xA9}, true) == "é");
  CHECK_FALSE(tokenizer->IsSpecial(-1));
  CHECK_FALSE(tokenizer->IsSpecial(INT32_MAX));
}

TEST_CASE("bytes that are no UTF-8 become U+FFFD, one each", "[tokenizer]") {
  const auto tokenizer = TinyTokenizer();
  const std::string text =
      "a\xFF\xC3"
      "b\xF0\x9F\x98";
  const Ids ids = tokenizer->Encode(text, SpecialText::kTurns);
  CHECK(tokenizer->Decode(ids, false) == "a\uFFFD\uFFFDb\uFFFD\uFFFD\uFFFD");
  CHECK(tokenizer->Decode(tokenizer->Encode(std::string("x\0y", 3), SpecialText::kNone), false) ==
        std::string("x\0y", 3));
}

TEST_CASE("what is no sentencepiece model is refused with its size", "[tokenizer]") {
  const SpecialTokens special = SpecialTokens::Released(kTinyPieces, true);
  for (const std::string& bytes : {std::string(), std::string("{\"version\": \"1.0\"}"),
                                   std::string(4096, '\0'), std::string("\x0A\xFF\xFF\xFF\x7F")}) {
    const Status status = CreateStatus(bytes, special);
    CHECK(status.code() == ErrorCode::kInvalidInput);
    CHECK(status.message().find(std::to_string(bytes.size()) + " bytes is not a sentencepiece") !=
          std::string::npos);
  }
  const std::string whole = TinyModel();
  for (size_t size = 0; size < whole.size(); size += 37) {
    CHECK(CreateStatus(whole.substr(0, size), special).code() == ErrorCode::kInvalidInput);
  }
}

TEST_CASE("a model that would change or forge text is refused", "[tokenizer]") {
  const std::vector<std::string> pieces = {"▁", "a", "x", "<", ">"};
  const auto status = [&](const ModelTraits& traits) {
    const auto size = static_cast<int32_t>(3 + (traits.byte_fallback ? 256 : 0) +
                                           traits.user_defined.size() + pieces.size());
    return CreateStatus(SerializeModel(pieces, traits), SpecialTokens::Released(size, true));
  };
  CHECK(status({}).ok());
  CHECK(status({.dummy_prefix = false}).message().find("changes text") != std::string::npos);
  CHECK(status({.remove_extra_spaces = true}).message().find("changes text") != std::string::npos);
  CHECK(status({.byte_fallback = false}).message().find("byte fallback") != std::string::npos);
  SpecialTokens forged = SpecialTokens::FromLiterals(
      {{"<s>", 1}, {"</s>", 2}, {"<fake_token_around_image>", 300}, {"<image>", 259}});
  CHECK(CreateStatus(SerializeModel(pieces, {.user_defined = {"<image>"}}), forged)
            .message()
            .find("user-defined") != std::string::npos);
}

TEST_CASE("special tokens that disagree with the model are refused", "[tokenizer]") {
  const std::string model = TinyModel();
  const auto with = [&](std::pair<std::string, int32_t> entry) {
    SpecialTokens special = SpecialTokens::Released(kTinyPieces, true);
    special.all.push_back(std::move(entry));
    return CreateStatus(model, special);
  };
  CHECK(with({"<x>", 400}).ok());
  for (const auto& entry : std::vector<std::pair<std::string, int32_t>>{{"", 400},
                                                                        {"<x>", -1},
                                                                        {"<x>", INT32_MAX},
                                                                        {"<x>", 321},
                                                                        {"<image>", 400},
                                                                        {"<x>", 300},
                                                                        {"\xFF", 400}}) {
    CAPTURE(entry.first, entry.second);
    CHECK(with(entry).code() == ErrorCode::kInvalidInput);
  }
  for (const char* missing : {"<s>", "</s>", "<image>", "<fake_token_around_image>"}) {
    auto all = SpecialTokens::Released(kTinyPieces, true).all;
    std::erase_if(all, [&](const auto& entry) { return entry.first == missing; });
    CAPTURE(missing);
    CHECK(CreateStatus(model, SpecialTokens::FromLiterals(all)).message().find(missing) !=
          std::string::npos);
  }
}

TEST_CASE("four threads encode and decode at once with the same result", "[tokenizer]") {
  const auto tokenizer = TinyTokenizer();
  const std::string text = "<s>user: the cat<end_of_utterance>\nhello 😀 the dog";
  const Ids expected = tokenizer->Encode(text, SpecialText::kTurns);
  const std::string decoded = tokenizer->Decode(expected, false);
  std::array<int, 4> wrong{};
  std::vector<std::thread> threads;
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        const Ids ids = tokenizer->Encode(text, SpecialText::kTurns);
        count += ids != expected || tokenizer->Decode(ids, false) != decoded;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::array<int, 4>{});
}

}  // namespace
}  // namespace idefics
