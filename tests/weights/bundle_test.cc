// SPDX-License-Identifier: Apache-2.0
#include "weights/bundle.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "bundle_fixture.h"

namespace idefics {
namespace {

using Catch::Matchers::ContainsSubstring;
using testing::Json;
using testing::ReadAll;
using testing::TemporaryFolder;
using testing::WriteFile;

constexpr const char* kFirst = "weights-00001-of-00002.safetensors";
constexpr const char* kSecond = "weights-00002-of-00002.safetensors";

std::string Refusal(const std::filesystem::path& folder, OpenBundleOptions options = {}) {
  const Result<Bundle> bundle = Bundle::Open(folder, options);
  REQUIRE_FALSE(bundle.ok());
  CHECK(bundle.status().code() == ErrorCode::kInvalidInput);
  CHECK(bundle.status().message().find('\n') == std::string::npos);
  return bundle.status().message();
}

TEST_CASE("a whole bundle opens with its tensors in load order", "[bundle]") {
  const TemporaryFolder folder;
  testing::WriteSmallBundle(folder.path());
  const Result<Bundle> bundle = Bundle::Open(folder.path(), {});
  REQUIRE(bundle.ok());
  std::vector<std::string> names;
  for (const TensorView& tensor : bundle->tensors()) names.push_back(tensor.name);
  CHECK(names == std::vector<std::string>{"decoder.b", "vision.a", "decoder.c"});
  CHECK(bundle->weight_bytes() == 24);
  CHECK(bundle->tensors()[1].shape == std::vector<int64_t>{2, 2});
  CHECK(bundle->tensors()[2].shape.empty());
  CHECK(bundle->ReadFile("vision.ts").value() == "vision script");
  CHECK(bundle->manifest().name == "small");
}

TEST_CASE("a flipped byte in any file is refused, naming the file and both hashes", "[bundle]") {
  for (const char* name : {"vision.ts", "decoder.ts", "tokenizer.model", kFirst, kSecond}) {
    INFO(name);
    const TemporaryFolder folder;
    testing::WriteSmallBundle(folder.path());
    std::string content = ReadAll(folder.path() / name);
    const std::string expected =
        Json::parse(ReadAll(folder.path() / "bundle.json"))["files"][name]["sha256"];
    content.back() = static_cast<char>(content.back() ^ 1);
    WriteFile(folder.path() / name, content);
    const auto* data = reinterpret_cast<const uint8_t*>(content.data());
    const std::string found = Sha256Hex({data, content.size()});
    CHECK(Refusal(folder.path()) ==
          (folder.path() / name).string() + " is damaged, its sha256 is " + found +
              ", bundle.json expects " + expected + ": copy or export the bundle again");
  }
}

TEST_CASE("without hashing a flipped byte of weights is not seen but a header still is checked",
          "[bundle]") {
  const TemporaryFolder folder;
  testing::WriteSmallBundle(folder.path());
  std::string content = ReadAll(folder.path() / kFirst);
  content.back() = 'z';
  WriteFile(folder.path() / kFirst, content);
  CHECK(Bundle::Open(folder.path(), {.verify_hashes = VerifyHashes::kNever}).ok());
  content[8] = '[';
  WriteFile(folder.path() / kFirst, content);
  CHECK_THAT(Refusal(folder.path(), {.verify_hashes = VerifyHashes::kNever}),
             ContainsSubstring("not a whole safetensors file"));
}

TEST_CASE("a missing file is refused by name", "[bundle]") {
  for (const char* name : {"vision.ts", "tokenizer.model", kSecond}) {
    const TemporaryFolder folder;
    testing::WriteSmallBundle(folder.path());
    std::filesystem::remove(folder.path() / name);
    CHECK_THAT(Refusal(folder.path()), ContainsSubstring(std::string(name) + " cannot be read"));
  }
}

TEST_CASE("a file of another size is refused with both sizes", "[bundle]") {
  const TemporaryFolder folder;
  testing::WriteSmallBundle(folder.path());
  WriteFile(folder.path() / "vision.ts", "vision");
  CHECK_THAT(Refusal(folder.path(), {.verify_hashes = VerifyHashes::kNever}),
             ContainsSubstring("vision.ts has 6 bytes, bundle.json expects 13"));
}

TEST_CASE("a folder without a manifest is refused", "[bundle]") {
  const TemporaryFolder folder;
  CHECK_THAT(Refusal(folder.path()), ContainsSubstring("has no bundle.json: give a bundle folder"));
  CHECK_THAT(Refusal(folder.path() / "none"), ContainsSubstring("has no bundle.json"));
  std::filesystem::create_directory(folder.path() / "bundle.json");
  CHECK_THAT(Refusal(folder.path()), ContainsSubstring("not a regular file"));
}

TEST_CASE("another format version is refused with the folder's name", "[bundle]") {
  const TemporaryFolder folder;
  testing::WriteSmallBundle(folder.path());
  Json manifest = Json::parse(ReadAll(folder.path() / "bundle.json"));
  manifest["format_version"] = 7;
  WriteFile(folder.path() / "bundle.json", manifest.dump());
  CHECK(Refusal(folder.path()) ==
        folder.path().string() +
            ": bundle.json has format version 7, this program reads version 6: update the program "
            "or export the checkpoint again");
}

TEST_CASE("a manifest that names no script, tokenizer or weights is refused", "[bundle]") {
  for (const char* name : {"vision.ts", "decoder.ts", "tokenizer.model"}) {
    const TemporaryFolder folder;
    testing::WriteSmallBundle(folder.path());
    std::filesystem::remove(folder.path() / name);
    testing::WriteManifest(folder.path(), testing::ValidManifest());
    CHECK_THAT(Refusal(folder.path()),
               ContainsSubstring("bundle.json names no file " + std::string(name)));
  }
  const TemporaryFolder folder;
  testing::WriteSmallBundle(folder.path());
  std::filesystem::remove(folder.path() / kFirst);
  std::filesystem::remove(folder.path() / kSecond);
  testing::WriteManifest(folder.path(), testing::ValidManifest());
  CHECK_THAT(Refusal(folder.path()), ContainsSubstring("holds no weights"));
}

TEST_CASE("a tensor in two weight files is refused by name", "[bundle]") {
  const TemporaryFolder folder;
  testing::WriteSmallBundle(folder.path());
  const Json header = {{"vision.a", testing::TensorJson("U8", {1}, 0, 1)}};
  WriteFile(folder.path() / kSecond, testing::SafetensorsBytes(header.dump(), "x"));
  testing::WriteManifest(folder.path(), testing::ValidManifest());
  CHECK_THAT(Refusal(folder.path()), ContainsSubstring("holds the tensor vision.a a second time"));
}

TEST_CASE("one thread finds the same as many", "[bundle]") {
  const TemporaryFolder folder;
  testing::WriteSmallBundle(folder.path());
  for (const int threads : {-1, 1, 2, 64}) {
    CHECK(Bundle::Open(folder.path(), {.num_threads = threads}).ok());
  }
  std::string content = ReadAll(folder.path() / kSecond);
  content.back() = 'z';
  WriteFile(folder.path() / kSecond, content);
  for (const int threads : {1, 2, 64}) {
    CHECK_THAT(Refusal(folder.path(), {.num_threads = threads}), ContainsSubstring(kSecond));
  }
}

TEST_CASE("a file that the manifest does not name cannot be read through the bundle", "[bundle]") {
  const TemporaryFolder folder;
  testing::WriteSmallBundle(folder.path());
  const Result<Bundle> bundle = Bundle::Open(folder.path(), {});
  REQUIRE(bundle.ok());
  CHECK_FALSE(bundle->ReadFile("../../etc/passwd").ok());
}

}  // namespace
}  // namespace idefics
