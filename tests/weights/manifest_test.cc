// SPDX-License-Identifier: Apache-2.0
#include "weights/manifest.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "bundle_fixture.h"

namespace idefics {
namespace {

using Catch::Matchers::ContainsSubstring;
using testing::Json;
using testing::ValidManifest;

std::string Refusal(const Json& manifest) {
  const Result<BundleManifest> parsed = ParseManifest(manifest.dump());
  REQUIRE_FALSE(parsed.ok());
  return parsed.status().message();
}

// ValidManifest() with the value at a JSON pointer replaced; a discarded value removes it.
Json With(const char* pointer, const Json& value) {
  Json manifest = ValidManifest();
  manifest[Json::json_pointer(pointer)] = value;
  return manifest;
}

Json Without(const char* section, const char* key) {
  Json manifest = ValidManifest();
  manifest[Json::json_pointer(section)].erase(key);
  return manifest;
}

TEST_CASE("a manifest is read into typed values", "[manifest]") {
  const Result<BundleManifest> parsed = ParseManifest(ValidManifest().dump());
  REQUIRE(parsed.ok());
  const BundleManifest& manifest = *parsed;
  CHECK(manifest.format_version == 6);
  CHECK(manifest.name == "small");
  CHECK(manifest.dtype == DType::kBF16);
  CHECK(manifest.source.at("dtype") == "f32");
  CHECK(manifest.model.total_vocab_size() == 323);
  CHECK(manifest.model.head_dim() == 16);
  CHECK(manifest.model.num_cross_layers() == 2);
  CHECK(manifest.model.tokens_per_image() == 4);
  CHECK_FALSE(manifest.model.max_position_embeddings.has_value());
  CHECK(manifest.model.vision.num_positions() == 5);
  CHECK(manifest.model.vision.layer_norm_eps == 1e-5);
  CHECK(manifest.processor.image_mean == std::vector<double>{0.5, 0.4, 0.3});
  CHECK(manifest.tokenizer.special_tokens[4] == std::pair<std::string, int32_t>("<image>", 321));
  CHECK(manifest.tokenizer.end_of_utterance == 322);
  CHECK(manifest.generation.max_new_tokens == 96);
  CHECK(manifest.generation.eos_token_ids == std::vector<int32_t>{2, 322});
  CHECK(manifest.generation.bad_words_ids == std::vector<std::vector<int32_t>>{{320}, {321}});
  CHECK(manifest.generation.do_sample == false);
  CHECK_FALSE(manifest.generation.top_k.has_value());
}

TEST_CASE("memory is counted in the type in which it is held", "[manifest]") {
  const Result<BundleManifest> bf16 = ParseManifest(ValidManifest().dump());
  // K and V, 4 layers, 64 values of 2 bytes; 2 cross layers of 4 latents.
  CHECK(bf16->kv_bytes_per_token(KvDType::kAsInBundle) == 2 * 4 * 64 * 2);
  CHECK(bf16->kv_bytes_per_token(KvDType::kInt8) == 2 * 4 * (64 + 4 * 4));  // 4 heads' scales
  CHECK(bf16->image_kv_bytes() == 2 * 2 * 4 * 64 * 2);
  const Result<BundleManifest> f32 = ParseManifest(With("/dtype", "f32").dump());
  CHECK(f32->kv_bytes_per_token(KvDType::kAsInBundle) == 2 * 4 * 64 * 4);
}

TEST_CASE("without a resampler an image brings every position and perceiver may be absent",
          "[manifest]") {
  Json json = With("/model/use_resampler", false);
  json["model"].erase("perceiver");
  const Result<BundleManifest> manifest = ParseManifest(json.dump());
  REQUIRE(manifest.ok());
  CHECK(manifest->model.tokens_per_image() == 5);
}

TEST_CASE("another format version is refused before anything else is read", "[manifest]") {
  const Json newer = {{"format", "cog-idefics-bundle"}, {"format_version", 7}};
  CHECK(Refusal(newer) ==
        "bundle.json has format version 7, this program reads version 6: update the program or "
        "export the checkpoint again");
  const Json older = {{"format", "cog-idefics-bundle"}, {"format_version", 1}};
  CHECK(Refusal(older) ==
        "bundle.json has format version 1, this program reads version 6: export the checkpoint "
        "again");
}

TEST_CASE("a manifest of another format is refused", "[manifest]") {
  CHECK_THAT(Refusal(With("/format", "other")),
             ContainsSubstring("format is \"other\", expected \"cog-idefics-bundle\""));
  CHECK_THAT(Refusal(With("/format_version", 0)), ContainsSubstring("format_version is 0"));
  CHECK_THAT(Refusal(With("/format_version", "1")), ContainsSubstring("format_version is \"1\""));
  CHECK_THAT(Refusal(Json::object()), ContainsSubstring("format is missing"));
  CHECK_THAT(ParseManifest("").status().message(), ContainsSubstring("not a JSON object"));
  CHECK_THAT(ParseManifest("[]").status().message(), ContainsSubstring("not a JSON object"));
  CHECK_THAT(ParseManifest(std::string(200'000, '[')).status().message(),
             ContainsSubstring("not a JSON object"));
}

TEST_CASE("every key is needed, and a missing one is named with its section", "[manifest]") {
  const std::pair<const char*, std::vector<const char*>> sections[] = {
      {"",
       {"dtype", "name", "quantization", "vision_quantization", "int8_linears", "created_with",
        "source", "model", "processor", "tokenizer", "generation", "files"}},
      {"/model",
       {"vocab_size", "additional_vocab_size", "hidden_size", "intermediate_size", "num_layers",
        "num_heads", "cross_layer_interval", "qk_layer_norms", "rms_norm_eps", "use_resampler",
        "vision", "perceiver"}},
      {"/model/vision",
       {"image_size", "patch_size", "num_channels", "embed_dim", "num_layers", "num_heads",
        "intermediate_size", "layer_norm_eps", "hidden_act"}},
      {"/model/perceiver", {"num_latents", "depth", "num_heads", "head_dim", "qk_layer_norms"}},
      {"/processor", {"image_size", "image_mean", "image_std"}},
      {"/tokenizer",
       {"file", "special_tokens", "unk", "bos", "eos", "pad", "fake_image", "image",
        "end_of_utterance"}}};
  for (const auto& [section, keys] : sections) {
    for (const char* key : keys) {
      INFO(section << " " << key);
      CHECK_THAT(Refusal(Without(section, key)),
                 ContainsSubstring(std::string(key) + " is missing"));
    }
  }
}

TEST_CASE("values of a wrong type or out of range are named with what was expected", "[manifest]") {
  const std::pair<const char*, Json> wrong[] = {
      {"/model/hidden_size", 0},
      {"/model/hidden_size", -64},
      {"/model/hidden_size", 64.0},
      {"/model/hidden_size", "64"},
      {"/model/hidden_size", uint64_t{1} << 63},
      {"/model/num_layers", 1 << 13},
      {"/model/vision/image_size", 1 << 20},
      {"/model/qk_layer_norms", 1},
      {"/model/rms_norm_eps", "small"},
      {"/model/vision", 3},
      {"/model/perceiver/num_latents", nullptr},
      {"/model/max_position_embeddings", "2048"},
      {"/dtype", "i8"},
      {"/dtype", 16},
      {"/quantization", "int2"},
      {"/vision_quantization", "int4"},
      {"/quantization", 8},
      {"/int8_linears", "decoder.lm_head"},
      {"/int8_linears", {8}},
      {"/name", 3},
      {"/source/path", 3},
      {"/processor/image_mean", {0.5, 0.5}},
      {"/processor/image_std", {1, 1, "1"}},
      {"/tokenizer/image", 323},
      {"/tokenizer/image", -1},
      {"/tokenizer/end_of_utterance", -2},
      {"/tokenizer/special_tokens/0", {"<unk>"}},
      {"/tokenizer/special_tokens/0/1", 323},
      {"/tokenizer/special_tokens/0/0", 7},
      {"/generation/eos_token_id", 2},
      {"/generation/eos_token_id/0", 323},
      {"/generation/bad_words_ids/0", 320},
      {"/generation/max_new_tokens", 1.5},
      {"/generation/do_sample", "no"},
      {"/files", {{"a", 1}}},
      {"/files", {{"a", {{"bytes", -1}, {"sha256", ""}}}}},
      {"/files", {{"a", {{"bytes", 1}}}}}};
  for (const auto& [pointer, value] : wrong) {
    INFO(pointer << " = " << value);
    const std::string sentence = Refusal(With(pointer, value));
    CHECK_THAT(sentence, ContainsSubstring("bundle.json: "));
    CHECK_THAT(sentence, ContainsSubstring(", expected "));
    CHECK_THAT(sentence, ContainsSubstring("export the bundle again"));
  }
}

TEST_CASE("sizes that do not divide are refused", "[manifest]") {
  CHECK_THAT(Refusal(With("/model/num_heads", 3)), ContainsSubstring("64 is not a multiple of"));
  CHECK_THAT(Refusal(With("/model/cross_layer_interval", 3)),
             ContainsSubstring("4 is not a multiple of"));
  CHECK_THAT(Refusal(With("/model/vision/patch_size", 56)), ContainsSubstring("56 is over"));
}

TEST_CASE("no file name of a manifest leads out of its folder", "[manifest]") {
  for (const char* name : {"../x", "a/b", "/etc/passwd", "..", ".hidden", "", "bundle.json"}) {
    INFO(name);
    Json manifest = ValidManifest();
    manifest["files"][name] = {{"bytes", 1}, {"sha256", ""}};
    CHECK_THAT(Refusal(manifest), ContainsSubstring("of a file in the bundle's folder"));
  }
}

}  // namespace
}  // namespace idefics
