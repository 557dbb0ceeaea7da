// SPDX-License-Identifier: Apache-2.0
#include "weights/manifest.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>

#include "weights/linear_layout.h"

namespace idefics {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kFormat = "cog-idefics-bundle";
// Far above every real model, and small enough that no product of them overflows 64 bits.
constexpr int64_t kMaxSize = int64_t{1} << 24;
constexpr int64_t kMaxHidden = int64_t{1} << 20;  // hidden size, image latents
constexpr int64_t kMaxLayers = int64_t{1} << 12;
constexpr int64_t kMaxImageSize = int64_t{1} << 14;

// One object of bundle.json. The first failed look-up is kept; later ones do nothing, so that a
// section is read without a check per line.
class Section {
 public:
  Section(const Json& json, std::string where, Status* status)
      : json_(json), where_(std::move(where)), status_(status) {}

  void Count(const char* key, int64_t* value, int64_t maximum = kMaxSize) const {
    Integer(key, value, 1, maximum);
  }
  // A token id; -1 where the model has none and `optional`.
  void TokenId(const char* key, int32_t* value, int64_t vocab_size, bool optional = false) const {
    int64_t id = 0;
    Integer(key, &id, optional ? -1 : 0, vocab_size - 1);
    *value = static_cast<int32_t>(id);
  }
  void Flag(const char* key, bool* value) const {
    if (const Json* found = Get(key, &Json::is_boolean, "true or false")) *value = *found;
  }
  void Number(const char* key, double* value) const {
    if (const Json* found = Get(key, &Json::is_number, "a number")) *value = *found;
  }
  void Text(const char* key, std::string* value) const {
    if (const Json* found = Get(key, &Json::is_string, "a string")) *value = *found;
  }
  void Integer(const char* key, int64_t* value, int64_t minimum, int64_t maximum) const {
    const std::string expected =
        "a whole number from " + std::to_string(minimum) + " to " + std::to_string(maximum);
    const Json* found = Get(key, &Json::is_number_integer, expected);
    if (found == nullptr) return;
    const bool fits =
        !found->is_number_unsigned() || found->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX);
    if (!fits || found->get<int64_t>() < minimum || found->get<int64_t>() > maximum) {
      return Fail(key, expected, found);
    }
    *value = *found;
  }
  Section Object(const char* key) const {
    static const Json kEmpty = Json::object();
    const Json* found = Get(key, &Json::is_object, "an object");
    return {found != nullptr ? *found : kEmpty, where_ + key + ".", status_};
  }
  const Json* Array(const char* key) const { return Get(key, &Json::is_array, "a list"); }
  bool Has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }
  const Json& json() const { return json_; }

  void Fail(const std::string& key, const std::string& expected, const Json* found) const {
    if (!status_->ok()) return;
    const std::string value =
        found == nullptr
            ? "missing"
            : found->dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 60);
    *status_ = Status::InvalidInput("bundle.json: " + where_ + key + " is " + value +
                                    ", expected " + expected + ": export the bundle again");
  }

 private:
  const Json* Get(const char* key, bool (Json::*is)() const noexcept,
                  const std::string& expected) const {
    if (!status_->ok()) return nullptr;
    const auto found = json_.find(key);
    if (found == json_.end() || !((*found).*is)()) {
      Fail(key, expected, found == json_.end() ? nullptr : &*found);
      return nullptr;
    }
    return &*found;
  }

  const Json& json_;
  std::string where_;  // "model.vision."
  Status* status_;
};

void ReadVision(const Section& section, VisionConfig* vision) {
  section.Count("image_size", &vision->image_size, kMaxImageSize);
  section.Count("patch_size", &vision->patch_size);
  section.Count("num_channels", &vision->num_channels);
  section.Count("embed_dim", &vision->embed_dim);
  section.Count("num_layers", &vision->num_layers, kMaxLayers);
  section.Count("num_heads", &vision->num_heads);
  section.Count("intermediate_size", &vision->intermediate_size);
  section.Number("layer_norm_eps", &vision->layer_norm_eps);
  section.Text("hidden_act", &vision->hidden_act);
}

void ReadPerceiver(const Section& section, PerceiverConfig* perceiver) {
  section.Count("num_latents", &perceiver->num_latents, kMaxHidden);
  section.Count("depth", &perceiver->depth);
  section.Count("num_heads", &perceiver->num_heads);
  section.Count("head_dim", &perceiver->head_dim);
  section.Flag("qk_layer_norms", &perceiver->qk_layer_norms);
}

void ReadModel(const Section& section, ModelConfig* model) {
  section.Count("vocab_size", &model->vocab_size);
  section.Integer("additional_vocab_size", &model->additional_vocab_size, 0, kMaxSize);
  section.Count("hidden_size", &model->hidden_size, kMaxHidden);
  section.Count("intermediate_size", &model->intermediate_size);
  section.Count("num_layers", &model->num_layers, kMaxLayers);
  section.Count("num_heads", &model->num_heads);
  section.Count("cross_layer_interval", &model->cross_layer_interval);
  section.Flag("qk_layer_norms", &model->qk_layer_norms);
  section.Number("rms_norm_eps", &model->rms_norm_eps);
  section.Flag("use_resampler", &model->use_resampler);
  if (section.Has("max_position_embeddings")) {
    section.Count("max_position_embeddings", &model->max_position_embeddings.emplace());
  }
  ReadVision(section.Object("vision"), &model->vision);
  if (model->use_resampler) ReadPerceiver(section.Object("perceiver"), &model->perceiver);
}

// Checks that the quotients which the program forms of the sizes are whole.
Status CheckModel(const ModelConfig& model) {
  const auto wrong = [](const std::string& what) {
    return Status::InvalidInput("bundle.json: " + what + ": export the bundle again");
  };
  if (model.hidden_size % model.num_heads != 0) {
    return wrong("model.hidden_size " + std::to_string(model.hidden_size) +
                 " is not a multiple of model.num_heads " + std::to_string(model.num_heads));
  }
  if (model.num_layers % model.cross_layer_interval != 0) {
    return wrong("model.num_layers " + std::to_string(model.num_layers) +
                 " is not a multiple of model.cross_layer_interval " +
                 std::to_string(model.cross_layer_interval));
  }
  if (model.vision.patch_size > model.vision.image_size) {
    return wrong("model.vision.patch_size " + std::to_string(model.vision.patch_size) +
                 " is over model.vision.image_size " + std::to_string(model.vision.image_size));
  }
  return Status::Ok();
}

void ReadTriple(const Section& section, const char* key, std::vector<double>* values) {
  const Json* array = section.Array(key);
  if (array == nullptr) return;
  for (const Json& value : *array) {
    if (value.is_number()) values->push_back(value.get<double>());
  }
  if (values->size() != 3 || array->size() != 3) section.Fail(key, "three numbers", array);
}

void ReadProcessor(const Section& section, ProcessorConfig* processor) {
  section.Count("image_size", &processor->image_size);
  ReadTriple(section, "image_mean", &processor->image_mean);
  ReadTriple(section, "image_std", &processor->image_std);
}

bool ReadId(const Json& json, int64_t vocab_size, int32_t* id) {
  if (!json.is_number_unsigned() || json.get<uint64_t>() >= static_cast<uint64_t>(vocab_size)) {
    return false;
  }
  *id = json.get<int32_t>();
  return true;
}

void ReadTokenizer(const Section& section, int64_t vocab_size, TokenizerConfig* tokenizer) {
  section.Text("file", &tokenizer->file);
  const Json* tokens = section.Array("special_tokens");
  for (const Json& entry : tokens != nullptr ? *tokens : Json::array()) {
    int32_t id = 0;
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() ||
        !ReadId(entry[1], vocab_size, &id)) {
      return section.Fail("special_tokens", "a list of [text, token id]", tokens);
    }
    tokenizer->special_tokens.emplace_back(entry[0].get<std::string>(), id);
  }
  section.TokenId("unk", &tokenizer->unk, vocab_size);
  section.TokenId("bos", &tokenizer->bos, vocab_size);
  section.TokenId("eos", &tokenizer->eos, vocab_size);
  section.TokenId("pad", &tokenizer->pad, vocab_size);
  section.TokenId("fake_image", &tokenizer->fake_image, vocab_size);
  section.TokenId("image", &tokenizer->image, vocab_size);
  section.TokenId("end_of_utterance", &tokenizer->end_of_utterance, vocab_size, /*optional=*/true);
}

bool ReadIds(const Json& json, int64_t vocab_size, std::vector<int32_t>* ids) {
  if (!json.is_array()) return false;
  for (const Json& value : json) {
    if (!ReadId(value, vocab_size, &ids->emplace_back())) return false;
  }
  return true;
}

void ReadCount(const Section& section, const char* key, std::optional<int64_t>* value) {
  if (section.Has(key)) section.Integer(key, &value->emplace(), 0, kMaxSize);
}

void ReadNumber(const Section& section, const char* key, std::optional<double>* value) {
  if (section.Has(key)) section.Number(key, &value->emplace());
}

void ReadGeneration(const Section& section, int64_t vocab_size, GenerationDefaults* generation) {
  ReadCount(section, "max_new_tokens", &generation->max_new_tokens);
  ReadCount(section, "max_length", &generation->max_length);
  ReadCount(section, "min_new_tokens", &generation->min_new_tokens);
  ReadCount(section, "top_k", &generation->top_k);
  ReadCount(section, "no_repeat_ngram_size", &generation->no_repeat_ngram_size);
  ReadCount(section, "num_beams", &generation->num_beams);
  ReadNumber(section, "temperature", &generation->temperature);
  ReadNumber(section, "top_p", &generation->top_p);
  ReadNumber(section, "min_p", &generation->min_p);
  ReadNumber(section, "typical_p", &generation->typical_p);
  ReadNumber(section, "repetition_penalty", &generation->repetition_penalty);
  ReadNumber(section, "length_penalty", &generation->length_penalty);
  if (section.Has("do_sample")) section.Flag("do_sample", &generation->do_sample.emplace());
  if (section.Has("eos_token_id")) {
    const Json* ids = section.Array("eos_token_id");
    if (ids != nullptr && !ReadIds(*ids, vocab_size, &generation->eos_token_ids)) {
      section.Fail("eos_token_id", "a list of token ids", ids);
    }
  }
  if (section.Has("bad_words_ids")) {
    const Json* words = section.Array("bad_words_ids");
    for (const Json& word : words != nullptr ? *words : Json::array()) {
      if (ReadIds(word, vocab_size, &generation->bad_words_ids.emplace_back())) continue;
      return section.Fail("bad_words_ids", "a list of lists of token ids", words);
    }
  }
}

// Whether the name is a plain file name: with a folder a manifest could point outside its bundle.
bool IsPlainFileName(const std::string& name) {
  return !name.empty() && name[0] != '.' && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos && name != "bundle.json";
}

void ReadFiles(const Section& section, std::map<std::string, BundleFile>* files) {
  for (const auto& [name, json] : section.json().items()) {
    if (!IsPlainFileName(name) || !json.is_object()) {
      return section.Fail(name, "the size and hash of a file in the bundle's folder", &json);
    }
    const Section entry = section.Object(name.c_str());
    BundleFile& file = (*files)[name];
    int64_t bytes = 0;
    entry.Integer("bytes", &bytes, 0, std::numeric_limits<int64_t>::max());
    file.bytes = static_cast<uint64_t>(bytes);
    entry.Text("sha256", &file.sha256);
  }
}

void ReadTexts(const Section& section, std::map<std::string, std::string>* texts) {
  for (const auto& [key, value] : section.json().items()) section.Text(key.c_str(), &(*texts)[key]);
}

// Format and version come first: nothing else of another version can be expected to be readable.
Status ReadFormat(const Section& root, int* version) {
  Status status;
  const Section top(root.json(), "", &status);
  std::string format;
  top.Text("format", &format);
  if (status.ok() && format != kFormat) {
    top.Fail("format", '"' + std::string(kFormat) + '"', &root.json()["format"]);
  }
  int64_t found = 0;
  top.Integer("format_version", &found, 1, std::numeric_limits<int32_t>::max());
  if (status.ok() && found != kBundleFormatVersion) {
    status = Status::InvalidInput("bundle.json has format version " + std::to_string(found) +
                                  ", this program reads version " +
                                  std::to_string(kBundleFormatVersion) + ": " +
                                  (found > kBundleFormatVersion ? "update the program or " : "") +
                                  "export the checkpoint again");
  }
  *version = static_cast<int>(found);
  return status;
}

// Reads a string that must be one of `allowed`.
std::string ReadChoice(const Section& root, const char* key, std::span<const char* const> allowed,
                       Status* status) {
  const Section top(root.json(), "", status);
  std::string value;
  top.Text(key, &value);
  if (!status->ok() || std::find(allowed.begin(), allowed.end(), value) != allowed.end()) {
    return value;
  }
  std::string expected;
  for (const char* name : allowed) {
    expected += (expected.empty() ? "\"" : " or \"") + std::string(name) + '"';
  }
  top.Fail(key, expected, &root.json()[key]);
  return value;
}

void ReadNames(const Section& section, const char* key, std::vector<std::string>* names) {
  const Json* const list = section.Array(key);
  for (const Json& name : list != nullptr ? *list : Json::array()) {
    if (!name.is_string()) return section.Fail(key, "a list of names", list);
    names->push_back(name.get<std::string>());
  }
}

Result<BundleManifest> ReadManifest(const Json& json) {
  BundleManifest manifest;
  Status status;
  const Section root(json, "", &status);
  RETURN_IF_ERROR(ReadFormat(root, &manifest.format_version));
  static constexpr const char* kTypes[] = {"f32", "bf16", "f16"};
  const std::string dtype = ReadChoice(root, "dtype", kTypes, &status);
  manifest.quantization = ReadChoice(root, "quantization", kBundleQuantizations, &status);
  manifest.vision_quantization =
      ReadChoice(root, "vision_quantization", kVisionQuantizations, &status);
  RETURN_IF_ERROR(status);
  manifest.dtype = *ParseDType(dtype);
  root.Text("name", &manifest.name);
  ReadNames(root, "int8_linears", &manifest.int8_linears);
  ReadTexts(root.Object("created_with"), &manifest.created_with);
  ReadTexts(root.Object("source"), &manifest.source);
  ReadModel(root.Object("model"), &manifest.model);
  RETURN_IF_ERROR(status);
  RETURN_IF_ERROR(CheckModel(manifest.model));
  const int64_t vocab_size = manifest.model.total_vocab_size();
  ReadProcessor(root.Object("processor"), &manifest.processor);
  ReadTokenizer(root.Object("tokenizer"), vocab_size, &manifest.tokenizer);
  ReadGeneration(root.Object("generation"), vocab_size, &manifest.generation);
  ReadFiles(root.Object("files"), &manifest.files);
  RETURN_IF_ERROR(status);
  return manifest;
}

}  // namespace

uint64_t BundleManifest::kv_bytes_per_token(KvDType kv_dtype) const {
  constexpr uint64_t kScaleBytes = 4;  // predictor/ops/kv_cache.h
  const auto layers = static_cast<uint64_t>(model.num_layers);
  const auto numbers = static_cast<uint64_t>(model.hidden_size);
  if (kv_dtype == KvDType::kAsInBundle) return 2 * layers * numbers * DTypeSize(dtype);
  return 2 * layers * (numbers + kScaleBytes * static_cast<uint64_t>(model.num_heads));
}

uint64_t BundleManifest::image_kv_bytes() const {
  return 2 * static_cast<uint64_t>(model.num_cross_layers() * model.tokens_per_image()) *
         static_cast<uint64_t>(model.hidden_size) * DTypeSize(dtype);
}

Result<BundleManifest> ParseManifest(std::string_view text) {
  const Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return Status::InvalidInput("bundle.json is not a JSON object: export the bundle again");
  }
  try {
    return ReadManifest(json);
  } catch (const Json::exception& error) {
    return Status::InvalidInput("bundle.json cannot be read (" + std::string(error.what()) +
                                "): export the bundle again");
  }
}

}  // namespace idefics
