// SPDX-License-Identifier: Apache-2.0
#include "server/cli/inspect_command.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "server/cli/device_needs.h"
#include "weights/bundle.h"

namespace idefics {
namespace {

using Json = nlohmann::ordered_json;
using Row = std::vector<std::string>;

struct Memory {
  uint64_t weights = 0;
  uint64_t kv_per_token = 0;
  uint64_t kv = 0;
  uint64_t per_image = 0;
  uint64_t images = 0;

  uint64_t total() const { return weights + kv + images; }
};

Memory MemoryOf(const Bundle& bundle, const InspectOptions& options) {
  Memory memory;
  memory.weights = bundle.weight_bytes();
  memory.kv_per_token = bundle.manifest().kv_bytes_per_token(options.kv_dtype);
  memory.kv = memory.kv_per_token * static_cast<uint64_t>(options.kv_tokens);
  memory.per_image = bundle.manifest().image_kv_bytes();
  memory.images = memory.per_image * static_cast<uint64_t>(options.image_cache_slots);
  return memory;
}

// "17.86 GB", "1.05 MB", "37 B"
std::string Size(uint64_t bytes) {
  const std::pair<double, const char*> units[] = {{1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}};
  for (const auto& [scale, unit] : units) {
    const double value = static_cast<double>(bytes) / scale;
    if (value < 1) continue;
    char text[40];
    std::snprintf(text, sizeof(text), "%.2f %s", value, unit);
    return text;
  }
  return std::to_string(bytes) + " B";
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  }
  return text + "]";
}

// Names come from a file: nothing in them may steer a terminal.
std::string Printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

// Columns padded to their widest cell, two spaces between them, the last one ragged.
void PrintTable(const std::string& title, const std::vector<Row>& rows, std::ostream& out) {
  std::vector<size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  out << "\n" << title << "\n";
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string cell = Printable(row[i]);
      const size_t padding = i + 1 < row.size() ? widths[i] - cell.size() + 2 : 0;
      line += cell + std::string(padding, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out << "  " << line << "\n";
  }
}

std::string Join(const std::map<std::string, std::string>& texts) {
  std::string joined;
  for (const auto& [key, value] : texts) joined += (joined.empty() ? "" : ", ") + key + " " + value;
  return joined;
}

std::string YesNo(bool value) { return value ? "yes" : "no"; }

std::vector<Row> ModelRows(const ModelConfig& model) {
  const auto text = [](int64_t value) { return std::to_string(value); };
  const VisionConfig& vision = model.vision;
  const PerceiverConfig& perceiver = model.perceiver;
  std::vector<Row> rows = {
      {"vocabulary", text(model.vocab_size) + " + " + text(model.additional_vocab_size)},
      {"decoder", text(model.num_layers) + " layers, width " + text(model.hidden_size) + ", " +
                      text(model.num_heads) + " heads of " + text(model.head_dim()) + ", MLP " +
                      text(model.intermediate_size)},
      {"cross attention", text(model.num_cross_layers()) + " layers, one every " +
                              text(model.cross_layer_interval) +
                              "; q and k norms: " + YesNo(model.qk_layer_norms)},
      {"positions", model.max_position_embeddings ? text(*model.max_position_embeddings)
                                                  : std::string("no limit in the config")},
      {"vision", text(vision.num_layers) + " layers, width " + text(vision.embed_dim) + ", " +
                     text(vision.num_heads) + " heads, MLP " + text(vision.intermediate_size) +
                     ", " + vision.hidden_act + "; " + text(vision.image_size) +
                     " pixels in patches of " + text(vision.patch_size)}};
  rows.push_back({"resampler", model.use_resampler
                                   ? text(perceiver.depth) + " blocks, " +
                                         text(perceiver.num_latents) + " latents, " +
                                         text(perceiver.num_heads) + " heads of " +
                                         text(perceiver.head_dim) +
                                         "; q and k norms: " + YesNo(perceiver.qk_layer_norms)
                                   : std::string("none")});
  return rows;
}

std::vector<Row> TokenRows(const TokenizerConfig& tokenizer) {
  std::vector<Row> rows;
  for (const auto& [token, id] : tokenizer.special_tokens) {
    rows.push_back({token, std::to_string(id)});
  }
  return rows;
}

std::string TextOf(bool value) { return YesNo(value); }
std::string TextOf(int64_t value) { return std::to_string(value); }
std::string TextOf(double value) {
  char text[40];
  std::snprintf(text, sizeof(text), "%g", value);
  return text;
}
std::string TextOf(const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) text += (text.empty() ? "" : ", ") + std::to_string(id);
  return text;
}

// What is set; names as in generation_config.json.
std::vector<Row> GenerationRows(const GenerationDefaults& defaults) {
  std::vector<Row> rows;
  const auto add = [&rows](const char* name, const auto& value) {
    if (value) rows.push_back({name, TextOf(*value)});
  };
  add("max_new_tokens", defaults.max_new_tokens);
  add("max_length", defaults.max_length);
  add("min_new_tokens", defaults.min_new_tokens);
  add("do_sample", defaults.do_sample);
  add("temperature", defaults.temperature);
  add("top_k", defaults.top_k);
  add("top_p", defaults.top_p);
  add("min_p", defaults.min_p);
  add("typical_p", defaults.typical_p);
  add("repetition_penalty", defaults.repetition_penalty);
  add("no_repeat_ngram_size", defaults.no_repeat_ngram_size);
  add("num_beams", defaults.num_beams);
  add("length_penalty", defaults.length_penalty);
  for (const std::vector<int32_t>& word : defaults.bad_words_ids) {
    rows.push_back({"bad_words_ids", TextOf(word)});
  }
  if (!defaults.eos_token_ids.empty()) {
    rows.push_back({"eos_token_id", TextOf(defaults.eos_token_ids), "applied to prompts"});
  }
  return rows;
}

std::vector<Row> MemoryRows(const Memory& memory, const InspectOptions& options) {
  return {{"weights", Size(memory.weights), ""},
          {"KV cache", Size(memory.kv),
           Size(memory.kv_per_token) + " a token, " + std::to_string(options.kv_tokens) +
               " tokens (--kv-tokens)"},
          {"image cache", Size(memory.images),
           Size(memory.per_image) + " an image, " + std::to_string(options.image_cache_slots) +
               " images (--image-cache-slots)"},
          {"together", Size(memory.total()), "and the buffers of a running step"}};
}

// What a device holds, of divided layers each, and the tokens of KV cache that usual GPUs then have
// room for.
std::vector<Row> DeviceRows(const Bundle& bundle, const InspectOptions& options) {
  std::vector<Row> rows = {{"devices", "weights", "KV cache"}};
  for (const uint64_t gigabytes : kGpuGigabytes) {
    rows.front().push_back("on " + std::to_string(gigabytes) + " GB");
  }
  rows.front().emplace_back("flags");
  for (const DeviceNeeds& needs : NeedsOf(bundle, options.kv_dtype)) {
    std::string weights;
    for (const DeviceShare& share : needs.shares) {
      weights += (weights.empty() ? "" : ", ") + Size(share.weights);
    }
    Row row = {std::to_string(needs.devices), weights,
               Size(needs.Most().kv_per_token) + " a token"};
    for (const uint64_t gigabytes : kGpuGigabytes) {
      const uint64_t tokens = needs.TokensOn(gigabytes * 1'000'000'000,
                                             static_cast<uint64_t>(options.image_cache_slots));
      row.push_back(tokens == 0 ? "no" : std::to_string(tokens) + " tokens");
    }
    row.push_back(needs.flags);
    rows.push_back(std::move(row));
  }
  return rows;
}

// dtype -> number of tensors, bytes
std::map<DType, std::pair<uint64_t, uint64_t>> CountTypes(const Bundle& bundle) {
  std::map<DType, std::pair<uint64_t, uint64_t>> types;
  for (const TensorView& tensor : bundle.tensors()) {
    auto& [count, bytes] = types[tensor.dtype];
    ++count;
    bytes += tensor.bytes.size();
  }
  return types;
}

void PrintTables(const Bundle& bundle, const InspectOptions& options, std::ostream& out) {
  const BundleManifest& manifest = bundle.manifest();
  out << "bundle " << bundle.path().string() << "\n";
  PrintTable(
      "general",
      {{"name", manifest.name},
       {"format version", std::to_string(manifest.format_version)},
       {"made with", Join(manifest.created_with)},
       {"source", Join(manifest.source)},
       {"type", std::string(DTypeName(manifest.dtype)) + ", quantization " + manifest.quantization +
                    ", of vision " + manifest.vision_quantization},
       {"linears of the decoder in int8 instead", std::to_string(manifest.int8_linears.size())}},
      out);
  PrintTable("model", ModelRows(manifest.model), out);
  PrintTable("special tokens", TokenRows(manifest.tokenizer), out);
  PrintTable("generation config of the checkpoint, for information",
             GenerationRows(manifest.generation), out);
  std::vector<Row> tensors = {{"name", "type", "shape", "bytes"}};
  for (const TensorView& tensor : bundle.tensors()) {
    tensors.push_back({tensor.name, DTypeName(tensor.dtype), ShapeText(tensor.shape),
                       std::to_string(tensor.bytes.size())});
  }
  PrintTable(std::to_string(bundle.tensors().size()) + " tensors in load order", tensors, out);
  std::vector<Row> types;
  for (const auto& [dtype, counts] : CountTypes(bundle)) {
    types.push_back(
        {DTypeName(dtype), std::to_string(counts.first) + " tensors", Size(counts.second)});
  }
  PrintTable("types", types, out);
  std::vector<Row> files = {{"name", "bytes", "sha256"}};
  for (const auto& [name, file] : manifest.files) {
    files.push_back({name, std::to_string(file.bytes), file.sha256});
  }
  PrintTable("files, every hash checked", files, out);
  PrintTable("memory it will need", MemoryRows(MemoryOf(bundle, options), options), out);
  PrintTable("GPUs: what each holds, and the tokens of KV cache it has room for",
             DeviceRows(bundle, options), out);
}

Json TensorsJson(const Bundle& bundle) {
  Json tensors = Json::array();
  for (const TensorView& tensor : bundle.tensors()) {
    tensors.push_back({{"name", tensor.name},
                       {"dtype", DTypeName(tensor.dtype)},
                       {"shape", tensor.shape},
                       {"bytes", tensor.bytes.size()}});
  }
  return tensors;
}

Json ShareJson(const DeviceShare& share) {
  return {{"weights", share.weights},
          {"kv_per_token", share.kv_per_token},
          {"per_image", share.per_image}};
}

Json DevicesJson(const Bundle& bundle, const InspectOptions& options) {
  Json ways = Json::array();
  for (const DeviceNeeds& needs : NeedsOf(bundle, options.kv_dtype)) {
    Json way = ShareJson(needs.Most());
    way["devices"] = needs.devices;
    way["flags"] = needs.flags;
    if (needs.shares.size() > 1) {
      for (const DeviceShare& share : needs.shares) way["each"].push_back(ShareJson(share));
    }
    ways.push_back(std::move(way));
  }
  return ways;
}

// The manifest as it is, with the tensors and the memory behind it.
Status PrintJson(const Bundle& bundle, const InspectOptions& options, std::ostream& out) {
  ASSIGN_OR_RETURN(const std::string text, bundle.ReadManifestText());
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const Memory memory = MemoryOf(bundle, options);
  json["tensors"] = TensorsJson(bundle);
  json["memory"] = {{"weights", memory.weights}, {"kv_per_token", memory.kv_per_token},
                    {"kv", memory.kv},           {"per_image", memory.per_image},
                    {"images", memory.images},   {"total", memory.total()}};
  json["devices"] = DevicesJson(bundle, options);
  out << json.dump(1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace) << "\n";
  return Status::Ok();
}

}  // namespace

int RunInspect(const InspectOptions& options, std::ostream& out, std::ostream& err) {
  OpenBundleOptions opening;
  opening.show_progress = options.show_progress;
  const Result<Bundle> bundle = Bundle::Open(options.path, opening);
  Status status = bundle.status();
  if (bundle.ok() && options.json) status = PrintJson(*bundle, options, out);
  if (bundle.ok() && !options.json) PrintTables(*bundle, options, out);
  if (status.ok()) return 0;
  err << "idefics-server: " << status.message() << "\n";
  return 1;
}

}  // namespace idefics
