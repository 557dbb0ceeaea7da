// SPDX-License-Identifier: Apache-2.0
// BundleManifest: bundle.json as typed values. Written by scripts/export/manifest.py; keep in step.
// Plain values, any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/status.h"
#include "weights/dtype.h"

namespace idefics {

inline constexpr int kBundleFormatVersion = 6;  // the one that this program reads

struct VisionConfig {
  int64_t image_size = 0;
  int64_t patch_size = 0;
  int64_t num_channels = 0;
  int64_t embed_dim = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t intermediate_size = 0;
  double layer_norm_eps = 0;
  std::string hidden_act;  // "gelu", "quick_gelu"

  // 256 patches and the class token: 257 for every released model.
  int64_t num_positions() const {
    return (image_size / patch_size) * (image_size / patch_size) + 1;
  }
};

struct PerceiverConfig {
  int64_t num_latents = 0;
  int64_t depth = 0;
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  bool qk_layer_norms = false;
};

struct ModelConfig {
  int64_t vocab_size = 0;             // base rows
  int64_t additional_vocab_size = 0;  // 2 (base), 3 (instruct)
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t cross_layer_interval = 0;
  bool qk_layer_norms = false;
  double rms_norm_eps = 0;
  bool use_resampler = false;
  std::optional<int64_t> max_position_embeddings;
  VisionConfig vision;
  PerceiverConfig perceiver;  // zeros without a resampler

  int64_t total_vocab_size() const { return vocab_size + additional_vocab_size; }
  int64_t head_dim() const { return hidden_size / num_heads; }
  int64_t num_cross_layers() const { return num_layers / cross_layer_interval; }
  // Keys of the cross attention that one image brings: 64 latents, or every position.
  int64_t tokens_per_image() const {
    return use_resampler ? perceiver.num_latents : vision.num_positions();
  }
};

struct ProcessorConfig {
  int64_t image_size = 0;          // the image becomes image_size x image_size
  std::vector<double> image_mean;  // 3, RGB, of values in [0, 1]
  std::vector<double> image_std;
};

struct TokenizerConfig {
  std::string file;                                             // "tokenizer.model"
  std::vector<std::pair<std::string, int32_t>> special_tokens;  // ascending ids
  int32_t unk = -1;
  int32_t bos = -1;
  int32_t eos = -1;
  int32_t pad = -1;
  int32_t fake_image = -1;
  int32_t image = -1;
  int32_t end_of_utterance = -1;  // -1: a base model
};

// What the checkpoint's generation_config.json (or config.json) sets; names as transformers.
struct GenerationDefaults {
  std::optional<int64_t> max_new_tokens;
  std::optional<int64_t> max_length;
  std::optional<int64_t> min_new_tokens;
  std::optional<bool> do_sample;
  std::optional<double> temperature;
  std::optional<int64_t> top_k;
  std::optional<double> top_p;
  std::optional<double> min_p;
  std::optional<double> typical_p;
  std::optional<double> repetition_penalty;
  std::optional<int64_t> no_repeat_ngram_size;
  std::optional<int64_t> num_beams;
  std::optional<double> length_penalty;
  std::vector<int32_t> eos_token_ids;               // empty: not set
  std::vector<std::vector<int32_t>> bad_words_ids;  // empty: not set
};

struct BundleFile {
  uint64_t bytes = 0;
  std::string sha256;  // 64 lower-case hex digits
};

// How the keys and values of tokens are stored: in the bundle's dtype, or in 8 bit with an f32
// scale for each head.
enum class KvDType { kAsInBundle, kInt8 };

struct BundleManifest {
  int format_version = 0;
  std::string name;
  std::map<std::string, std::string> created_with;  // tool -> version
  std::map<std::string, std::string> source;        // path, architecture, dtype
  DType dtype = DType::kF32;              // of activations, and of weights that are not quantized
  std::string quantization;               // of the decoder's linears: "none", "int8", "int4"
  std::string vision_quantization;        // of the linears that look at pictures: "none", "int8"
  std::vector<std::string> int8_linears;  // of the decoder, int8 whatever its quantization
  ModelConfig model;
  ProcessorConfig processor;
  TokenizerConfig tokenizer;
  GenerationDefaults generation;
  std::map<std::string, BundleFile> files;  // every file of the bundle but bundle.json

  // Bytes of one token's keys and values in every decoder layer.
  uint64_t kv_bytes_per_token(KvDType kv_dtype) const;
  // Bytes of one image's keys and values in every gated cross-attention layer.
  uint64_t image_kv_bytes() const;
};

// `json`: the text of bundle.json. Fails with kInvalidInput, naming the key, where it is no JSON,
// no bundle, of another format version, or a key is missing, mistyped or out of range.
Result<BundleManifest> ParseManifest(std::string_view json);

}  // namespace idefics
