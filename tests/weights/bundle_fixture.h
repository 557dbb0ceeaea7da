// SPDX-License-Identifier: Apache-2.0
// A small bundle, written file by file into a temporary folder, for tests to damage.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/sha256.h"

namespace idefics::testing {

using Json = nlohmann::json;

// A folder that goes away with its owner.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "idefics-test-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline void WriteFile(const std::filesystem::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

inline std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {(std::istreambuf_iterator<char>(file)), {}};
}

// `header` as JSON text, padded to `padding` bytes, then `data`.
inline std::string SafetensorsBytes(const std::string& header, const std::string& data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(header.size() >> (8 * i));
  return bytes + header + data;
}

inline Json TensorJson(const char* dtype, const std::vector<int64_t>& shape, uint64_t begin,
                       uint64_t end) {
  return {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, end}}};
}

inline Json ValidManifest() {
  return Json::parse(R"({
    "format": "cog-idefics-bundle", "format_version": 6, "name": "small",
    "created_with": {"torch": "2.11.0"},
    "source": {"path": "hf", "architecture": "IdeficsForVisionText2Text", "dtype": "f32"},
    "dtype": "bf16", "quantization": "none", "vision_quantization": "none", "int8_linears": [],
    "model": {
      "vocab_size": 320, "additional_vocab_size": 3, "hidden_size": 64, "intermediate_size": 96,
      "num_layers": 4, "num_heads": 4, "cross_layer_interval": 2, "qk_layer_norms": true,
      "rms_norm_eps": 1e-6, "use_resampler": true, "max_position_embeddings": null,
      "vision": {"image_size": 28, "patch_size": 14, "num_channels": 3, "embed_dim": 32,
        "num_layers": 2, "num_heads": 4, "intermediate_size": 48, "layer_norm_eps": 1e-5,
        "hidden_act": "gelu"},
      "perceiver": {"num_latents": 4, "depth": 2, "num_heads": 2, "head_dim": 24,
        "qk_layer_norms": true}},
    "processor": {"image_size": 28, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2]},
    "tokenizer": {"file": "tokenizer.model",
      "special_tokens": [["<unk>", 0], ["<s>", 1], ["</s>", 2],
        ["<fake_token_around_image>", 320], ["<image>", 321], ["<end_of_utterance>", 322]],
      "unk": 0, "bos": 1, "eos": 2, "pad": 0, "fake_image": 320, "image": 321,
      "end_of_utterance": 322},
    "generation": {"max_new_tokens": 96, "eos_token_id": [2, 322],
      "bad_words_ids": [[320], [321]], "temperature": 0.5, "do_sample": false},
    "files": {}})");
}

// Writes bundle.json with the sizes and hashes of the files in `folder`.
inline void WriteManifest(const std::filesystem::path& folder, Json manifest) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name == "bundle.json") continue;
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string content((std::istreambuf_iterator<char>(file)), {});
    const auto* data = reinterpret_cast<const uint8_t*>(content.data());
    manifest["files"][name] = {{"bytes", content.size()},
                               {"sha256", Sha256Hex({data, content.size()})}};
  }
  WriteFile(folder / "bundle.json", manifest.dump());
}

// Two weight files: decoder.b (i32 [3]) and vision.a (bf16 [2, 2]); then decoder.c (f32, scalar).
inline void WriteSmallBundle(const std::filesystem::path& folder) {
  WriteFile(folder / "vision.ts", "vision script");
  WriteFile(folder / "decoder.ts", "decoder script");
  WriteFile(folder / "tokenizer.model", "pieces");
  // Names in the other order than places: the order of the tensors is that of their bytes.
  const Json first = {{"__metadata__", {{"format", "pt"}}},
                      {"vision.a", TensorJson("BF16", {2, 2}, 12, 20)},
                      {"decoder.b", TensorJson("I32", {3}, 0, 12)}};
  WriteFile(folder / "weights-00001-of-00002.safetensors",
            SafetensorsBytes(first.dump(), "bbbbbbbbbbbbaaaaaaaa"));
  const Json second = {{"decoder.c", TensorJson("F32", {}, 0, 4)}};
  WriteFile(folder / "weights-00002-of-00002.safetensors", SafetensorsBytes(second.dump(), "cccc"));
  WriteManifest(folder, ValidManifest());
}

}  // namespace idefics::testing
