// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <sstream>

#include "bundle_fixture.h"
#include "server/cli/device_needs.h"
#include "server/cli/inspect_command.h"

namespace idefics {
namespace {

using Catch::Matchers::ContainsSubstring;
using testing::Json;
using testing::TemporaryFolder;

struct Output {
  int code = 0;
  std::string out;
  std::string err;
};

Output Inspect(const std::filesystem::path& path, bool json) {
  InspectOptions options;
  options.path = path;
  options.json = json;
  options.show_progress = false;
  options.kv_tokens = 100;
  options.image_cache_slots = 10;
  std::ostringstream out, err;
  const int code = RunInspect(options, out, err);
  return {code, out.str(), err.str()};
}

TEST_CASE("inspect prints config, tensors, types, sizes, hashes and memory", "[inspect]") {
  const TemporaryFolder folder;
  testing::WriteSmallBundle(folder.path());
  const Output output = Inspect(folder.path(), /*json=*/false);
  CHECK(output.code == 0);
  CHECK(output.err.empty());
  for (const char* part :
       {"4 layers, width 64, 4 heads of 16, MLP 96", "<end_of_utterance>         322",
        "vision.a   bf16  [2, 2]  8", "decoder.c  f32   []      4", "bf16  1 tensors  8 B",
        "bf16, quantization none, of vision none",
        "KV cache     102.40 kB  1.02 kB a token, 100 tokens",
        "image cache  20.48 kB   2.05 kB an image, 10 images", "together     122.90 kB",
        "temperature     0.5", "do_sample       no", "bad_words_ids   321",
        "eos_token_id    2, 322  applied to prompts"}) {
    CHECK_THAT(output.out, ContainsSubstring(part));
  }
  const std::string hash = Sha256Hex({reinterpret_cast<const uint8_t*>("vision script"), 13});
  CHECK_THAT(output.out, ContainsSubstring("13     " + hash));
}

TEST_CASE("inspect --json prints the manifest with tensors and memory", "[inspect]") {
  const TemporaryFolder folder;
  testing::WriteSmallBundle(folder.path());
  const Output output = Inspect(folder.path(), /*json=*/true);
  CHECK(output.code == 0);
  const Json json = Json::parse(output.out);
  CHECK(json["model"]["hidden_size"] == 64);
  CHECK(json["tensors"][1] ==
        Json({{"name", "vision.a"}, {"dtype", "bf16"}, {"shape", {2, 2}}, {"bytes", 8}}));
  CHECK(json["memory"]["weights"] == 24);
  CHECK(json["memory"]["total"] == 24 + 100 * 1024 + 10 * 2048);
}

TEST_CASE("inspect says what each of several devices holds", "[inspect]") {
  const TemporaryFolder folder;
  testing::WriteSmallBundle(folder.path());
  const Output output = Inspect(folder.path(), /*json=*/true);
  const Json ways = Json::parse(output.out)["devices"];
  REQUIRE(ways.size() == 5);  // of 4 heads; its linears are not in the bundle, so fp8 saves nothing
  CHECK(ways[0] == Json({{"devices", 1},
                         {"flags", ""},
                         {"weights", 24},
                         {"kv_per_token", 1024},
                         {"per_image", 2048}}));
  CHECK(ways[2] == Json({{"devices", 4},
                         {"flags", "--tensor-parallel 4"},
                         {"weights", 24},
                         {"kv_per_token", 256},
                         {"per_image", 512}}));
  // Of 4 layers, a cross layer before every other one; all tensors stay on the first device.
  CHECK(ways[4] == Json({{"devices", 4},
                         {"flags", "--device cuda:0,cuda:1,cuda:2,cuda:3"},
                         {"weights", 24},
                         {"kv_per_token", 256},
                         {"per_image", 1024},
                         {"each",
                          {{{"weights", 24}, {"kv_per_token", 256}, {"per_image", 1024}},
                           {{"weights", 0}, {"kv_per_token", 256}, {"per_image", 0}},
                           {{"weights", 0}, {"kv_per_token", 256}, {"per_image", 1024}},
                           {{"weights", 0}, {"kv_per_token", 256}, {"per_image", 0}}}}}));
  const std::string table = Inspect(folder.path(), /*json=*/false).out;
  CHECK_THAT(table, ContainsSubstring("--tensor-parallel 4"));
  CHECK_THAT(table, ContainsSubstring("24 B, 0 B, 0 B, 0 B"));
}

TEST_CASE("fp8 is no way to run weights that are smaller already", "[inspect]") {
  const TemporaryFolder folder;
  testing::WriteSmallBundle(folder.path());
  Json manifest = testing::ValidManifest();
  manifest["quantization"] = "int8";
  testing::WriteManifest(folder.path(), manifest);
  const std::string table = Inspect(folder.path(), /*json=*/false).out;
  CHECK_THAT(table, ContainsSubstring("--device cuda:0,cuda:1"));
  CHECK_THAT(table, !ContainsSubstring("--weights fp8"));
}

TEST_CASE("a device has room for what its memory leaves beside weights and pictures", "[inspect]") {
  DeviceNeeds needs;
  needs.shares = {{10'500'000'000, 1'000'000, 10'000'000}};
  // 24 - 1.5 - 10.5 GB are left, four fifths of them for the caches.
  CHECK(needs.TokensOn(24'000'000'000, 32) == 9600 - 320);
  CHECK(needs.TokensOn(24'000'000'000, 960) == 0);
  CHECK(needs.TokensOn(12'000'000'000, 0) == 0);
  // A second device with less room decides.
  needs.shares.push_back({12'500'000'000, 1'000'000, 0});
  CHECK(needs.TokensOn(24'000'000'000, 32) == 8000);
  CHECK(needs.Most().weights == 12'500'000'000);
  CHECK(needs.Most().per_image == 10'000'000);
}

TEST_CASE("inspect refuses a damaged bundle with one sentence on stderr", "[inspect]") {
  const TemporaryFolder folder;
  testing::WriteSmallBundle(folder.path());
  testing::WriteFile(folder.path() / "vision.ts", "vision sCript");
  const Output output = Inspect(folder.path(), /*json=*/false);
  CHECK(output.code == 1);
  CHECK(output.out.empty());
  CHECK_THAT(output.err, ContainsSubstring("vision.ts is damaged"));
  CHECK(std::count(output.err.begin(), output.err.end(), '\n') == 1);
}

TEST_CASE("names from a bundle cannot steer the terminal", "[inspect]") {
  const TemporaryFolder folder;
  testing::WriteSmallBundle(folder.path());
  Json manifest = testing::ValidManifest();
  manifest["name"] = "a\x1b[2Jb\nc";
  testing::WriteManifest(folder.path(), manifest);
  const Output output = Inspect(folder.path(), /*json=*/false);
  CHECK(output.code == 0);
  CHECK_THAT(output.out, ContainsSubstring("a?[2Jb?c"));
}

}  // namespace
}  // namespace idefics
