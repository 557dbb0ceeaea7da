// SPDX-License-Identifier: Apache-2.0
#include "weights/safetensors.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "bundle_fixture.h"

namespace idefics {
namespace {

using Catch::Matchers::ContainsSubstring;
using testing::Json;
using testing::SafetensorsBytes;
using testing::TemporaryFolder;
using testing::TensorJson;

// The sentence with which `bytes` as a file are refused.
std::string Refusal(const std::string& bytes) {
  const TemporaryFolder folder;
  testing::WriteFile(folder.path() / "w.safetensors", bytes);
  const Result<SafetensorsFile> file = SafetensorsFile::Open(folder.path() / "w.safetensors");
  REQUIRE_FALSE(file.ok());
  CHECK_THAT(file.status().message(), ContainsSubstring("w.safetensors"));
  CHECK(file.status().code() == ErrorCode::kInvalidInput);
  return file.status().message();
}

std::string RefusalOf(const Json& header, const std::string& data) {
  return Refusal(SafetensorsBytes(header.dump(), data));
}

TEST_CASE("tensors come in the order of their bytes with name, type and shape", "[safetensors]") {
  const TemporaryFolder folder;
  const Json header = {{"b", TensorJson("F16", {1, 3}, 0, 6)},
                       {"a", TensorJson("I64", {2}, 6, 22)},
                       {"e", TensorJson("U8", {0, 5}, 6, 6)},
                       {"__metadata__", {{"format", "pt"}}}};
  testing::WriteFile(folder.path() / "w",
                     SafetensorsBytes(header.dump() + "   ", "ffffffiiiiiiiiiiiiiiii"));
  const Result<SafetensorsFile> file = SafetensorsFile::Open(folder.path() / "w");
  REQUIRE(file.ok());
  REQUIRE(file->tensors().size() == 3);
  const TensorView& b = file->tensors()[0];
  CHECK(b.name == "b");
  CHECK(b.dtype == DType::kF16);
  CHECK(b.shape == std::vector<int64_t>{1, 3});
  CHECK(std::string(b.bytes.begin(), b.bytes.end()) == "ffffff");
  CHECK(file->tensors()[1].name == "e");
  CHECK(file->tensors()[1].bytes.empty());
  CHECK(file->tensors()[2].name == "a");
}

TEST_CASE("a tensor outlives the file object it came from", "[safetensors]") {
  const TemporaryFolder folder;
  const Json header = {{"a", TensorJson("U8", {4}, 0, 4)}};
  testing::WriteFile(folder.path() / "w", SafetensorsBytes(header.dump(), "abcd"));
  TensorView view;
  {
    const Result<SafetensorsFile> file = SafetensorsFile::Open(folder.path() / "w");
    REQUIRE(file.ok());
    view = file->tensors()[0];
  }
  std::filesystem::remove(folder.path() / "w");
  CHECK(std::string(view.bytes.begin(), view.bytes.end()) == "abcd");
}

TEST_CASE("a file that cannot hold its header is refused", "[safetensors]") {
  CHECK_THAT(Refusal(""), ContainsSubstring("its 0 bytes cannot hold a header"));
  CHECK_THAT(Refusal("1234567"), ContainsSubstring("its 7 bytes cannot hold a header"));
  std::string huge = SafetensorsBytes("{}", "");
  huge[7] = '\x7f';
  CHECK_THAT(Refusal(huge), ContainsSubstring("cannot hold a header of 9151314442816847874 bytes"));
  std::string over = SafetensorsBytes("{}", "");
  over[0] = 3;
  CHECK_THAT(Refusal(over), ContainsSubstring("header of 3 bytes"));
}

TEST_CASE("a header that is no JSON object is refused", "[safetensors]") {
  const std::string sentence = "its header is not a JSON object with distinct names";
  CHECK_THAT(Refusal(SafetensorsBytes("[1]", "")), ContainsSubstring(sentence));
  CHECK_THAT(Refusal(SafetensorsBytes("{\"a\":", "")), ContainsSubstring(sentence));
  CHECK_THAT(Refusal(SafetensorsBytes("\xff\xfe", "")), ContainsSubstring(sentence));
  CHECK_THAT(Refusal(SafetensorsBytes(std::string(1 << 20, '['), "")), ContainsSubstring(sentence));
  std::string deep = "{\"a\":";
  for (int i = 0; i < 100'000; ++i) deep += "[";
  for (int i = 0; i < 100'000; ++i) deep += "]";
  CHECK_THAT(Refusal(SafetensorsBytes(deep + "}", "")), ContainsSubstring(sentence));
}

TEST_CASE("a name given twice is refused", "[safetensors]") {
  const std::string entry = TensorJson("U8", {2}, 0, 2).dump();
  const std::string header = "{\"a\":" + entry + ",\"a\":" + entry + "}";
  CHECK_THAT(Refusal(SafetensorsBytes(header, "xx")), ContainsSubstring("distinct names"));
}

TEST_CASE("a tensor without a usable description is refused by name", "[safetensors]") {
  const std::string sentence = "tensor a is not described by dtype, shape and data_offsets";
  for (const char* text :
       {R"({"a": 1})", R"({"a": {}})", R"({"a": {"dtype": "U8", "shape": [1]}})",
        R"({"a": {"dtype": 3, "shape": [1], "data_offsets": [0, 1]}})",
        R"({"a": {"dtype": "U8", "shape": [-1], "data_offsets": [0, 1]}})",
        R"({"a": {"dtype": "U8", "shape": [1.5], "data_offsets": [0, 1]}})",
        R"({"a": {"dtype": "U8", "shape": 1, "data_offsets": [0, 1]}})",
        R"({"a": {"dtype": "U8", "shape": [18446744073709551615], "data_offsets": [0, 1]}})",
        R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 2]}})",
        R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [-1, 1]}})"}) {
    INFO(text);
    CHECK_THAT(Refusal(SafetensorsBytes(text, "x")), ContainsSubstring(sentence));
  }
  CHECK_THAT(RefusalOf({{"a", TensorJson("F4", {1}, 0, 1)}}, "x"),
             ContainsSubstring("tensor a has the dtype F4"));
}

TEST_CASE("offsets out of the file, backwards or not of the shape are refused", "[safetensors]") {
  CHECK_THAT(RefusalOf({{"a", TensorJson("U8", {5}, 0, 5)}}, "xxxx"),
             ContainsSubstring("tensor a lies at bytes 0 to 5 of 4"));
  CHECK_THAT(RefusalOf({{"a", TensorJson("U8", {1}, 3, 2)}}, "xxxx"),
             ContainsSubstring("lies at bytes 3 to 2 of 4"));
  CHECK_THAT(RefusalOf({{"a", TensorJson("F32", {2}, 0, 4)}}, "xxxx"),
             ContainsSubstring("takes 4 bytes, which is not what its shape and dtype need"));
  // 2^62 * 4 elements: the product of the shape overflows to 0.
  CHECK_THAT(RefusalOf({{"a", TensorJson("F32", {int64_t{1} << 62, 4}, 0, 0)}}, ""),
             ContainsSubstring("which is not what its shape and dtype need"));
}

TEST_CASE("tensors that overlap or leave a gap are refused", "[safetensors]") {
  const std::string sentence = "its tensors overlap or leave a gap in its 4 bytes of data";
  CHECK_THAT(
      RefusalOf({{"a", TensorJson("U8", {3}, 0, 3)}, {"b", TensorJson("U8", {2}, 2, 4)}}, "xxxx"),
      ContainsSubstring(sentence));
  CHECK_THAT(
      RefusalOf({{"a", TensorJson("U8", {1}, 0, 1)}, {"b", TensorJson("U8", {2}, 2, 4)}}, "xxxx"),
      ContainsSubstring(sentence));
  CHECK_THAT(RefusalOf({{"a", TensorJson("U8", {3}, 0, 3)}}, "xxxx"), ContainsSubstring(sentence));
}

TEST_CASE("every cut of a good file is refused, never read past its end", "[safetensors]") {
  const Json header = {{"a", TensorJson("F32", {2, 2}, 0, 16)},
                       {"b", TensorJson("U8", {4}, 16, 20)}};
  const std::string whole = SafetensorsBytes(header.dump(), "aaaaaaaaaaaaaaaabbbb");
  for (size_t size = 0; size < whole.size(); ++size) Refusal(whole.substr(0, size));
}

TEST_CASE("no flip of one byte of the header leads out of the file", "[safetensors]") {
  const TemporaryFolder folder;
  const Json header = {{"a", TensorJson("F32", {2, 2}, 0, 16)},
                       {"b", TensorJson("U8", {4}, 16, 20)}};
  const std::string whole = SafetensorsBytes(header.dump(), "aaaaaaaaaaaaaaaabbbb");
  for (size_t at = 0; at < whole.size() - 20; ++at) {
    for (const char flip : {'\x01', '\x10', '\x80'}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      testing::WriteFile(folder.path() / "w", bytes);
      const Result<SafetensorsFile> file = SafetensorsFile::Open(folder.path() / "w");
      if (!file.ok()) continue;
      size_t total = 0;
      for (const TensorView& tensor : file->tensors()) total += tensor.bytes.size();
      REQUIRE(total == 20);
    }
  }
}

TEST_CASE("a missing file and a folder are refused", "[safetensors]") {
  const TemporaryFolder folder;
  const Result<SafetensorsFile> missing = SafetensorsFile::Open(folder.path() / "none");
  CHECK_THAT(missing.status().message(), ContainsSubstring("No such file"));
  const Result<SafetensorsFile> directory = SafetensorsFile::Open(folder.path());
  CHECK_THAT(directory.status().message(), ContainsSubstring("not a regular file"));
}

}  // namespace
}  // namespace idefics
