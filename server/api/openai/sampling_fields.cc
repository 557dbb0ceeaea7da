// SPDX-License-Identifier: Apache-2.0
#include "server/api/openai/sampling_fields.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "common/utf8.h"

namespace idefics {
namespace {

using nlohmann::json;

constexpr size_t kMaxStops = 16;
constexpr size_t kMaxStopBytes = 4096;
constexpr size_t kMaxBadWordBytes = 256;
constexpr size_t kMaxBadWords = 64;
constexpr size_t kMaxStopTokens = 32;
constexpr size_t kMaxBiases = 1024;
constexpr double kMost = std::numeric_limits<double>::max();
// Scores are divided by it as 32-bit floats.
constexpr double kSmallestTemperature = 1e-5;

struct RefusedField {
  const char* name;
  const char* why;
};

constexpr RefusedField kRefused[] = {
    {"chat_template", "chat_template is not taken: the model's own dialogue form is used"},
    {"prompt_logprobs", "prompt_logprobs is not supported"},
    {"use_beam_search", "use_beam_search is not supported: set num_beams"},
    {"structured_outputs", "structured_outputs is not supported: answers cannot be guided"},
    {"guided_json", "guided_json is not supported: answers cannot be guided"},
    {"guided_regex", "guided_regex is not supported: answers cannot be guided"},
    {"guided_choice", "guided_choice is not supported: answers cannot be guided"},
    {"guided_grammar", "guided_grammar is not supported: answers cannot be guided"},
    {"grammar", "grammar is not supported: answers cannot be guided"},
    {"json_schema", "json_schema is not supported: answers cannot be guided"},
    {"truncate_prompt_tokens", "truncate_prompt_tokens is not supported: shorten the prompt"},
    {"documents", "documents is not supported: put the text into a message"},
    {"web_search_options", "web_search_options is not supported: this server searches nothing"},
};

void RefuseGuidedAnswers(FieldReader* fields) {
  const json* format = fields->Find("response_format");
  if (format == nullptr) return;
  const bool is_text = format->is_object() && IsText(format->value("type", json()), "text");
  if (is_text) return;
  fields->Fail("response_format",
               "response_format must be {\"type\": \"text\"}: answers cannot be guided",
               "unsupported_value");
}

void RefuseForcedTools(FieldReader* fields) {
  for (const char* name : {"tool_choice", "function_call"}) {
    const json* choice = fields->Find(name);
    if (choice == nullptr || IsText(*choice, "none") || IsText(*choice, "auto")) continue;
    fields->Fail(name, std::string(name) + " must be none or auto: this model calls no tools",
                 "unsupported_value");
  }
}

void RefuseOtherModalities(FieldReader* fields) {
  const json* modalities = fields->Find("modalities");
  const bool only_text = modalities != nullptr && modalities->is_array() &&
                         modalities->size() == 1 && IsText(modalities->front(), "text");
  if (modalities != nullptr && !only_text) {
    fields->Fail("modalities", "modalities must be [\"text\"]", "unsupported_value");
  }
  fields->Refuse("audio", "audio is not supported: answers are text");
}

void ReadLogitBias(int32_t vocab_size, FieldReader* fields, SamplingParams* sampling) {
  const json* bias = fields->Find("logit_bias");
  if (bias == nullptr) return;
  if (!bias->is_object() || bias->size() > kMaxBiases) {
    fields->Fail("logit_bias", "logit_bias must be an object of at most " +
                                   std::to_string(kMaxBiases) + " token ids and numbers");
    return;
  }
  for (const auto& [key, value] : bias->items()) {
    int32_t id = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), id);
    const bool is_id = parsed.ec == std::errc() && parsed.ptr == key.data() + key.size() &&
                       id >= 0 && id < vocab_size;
    constexpr size_t kShownBytes = 40;
    const std::string shown = Abbreviate(key, kShownBytes);
    if (!is_id) {
      fields->Fail("logit_bias", "logit_bias has the key '" + shown +
                                     "', which is no token id from 0 to " +
                                     std::to_string(vocab_size - 1));
      return;
    }
    if (!value.is_number() || !(std::abs(value.get<double>()) <= 100)) {
      fields->Fail("logit_bias",
                   "logit_bias of token " + shown + " must be a number from -100 to 100");
      return;
    }
    sampling->logit_bias.emplace_back(id, value.get<float>());
  }
}

// Which tokens end an answer and which never come.
void ReadTokenLists(const ModelFacts& model, FieldReader* fields, GenerateRequest* request) {
  SamplingParams& sampling = request->sampling;
  std::vector<int32_t> stop_ids;
  std::vector<std::string> bad_words;
  bool ignore_eos = false;
  fields->Integers("stop_token_ids", 0, model.tokenizer.vocab_size() - 1, kMaxStopTokens,
                   &stop_ids);
  fields->Texts("bad_words", kMaxBadWords, kMaxBadWordBytes, &bad_words);
  fields->Bool("ignore_eos", &ignore_eos);
  request->token_defaults = TokenDefaults::kNone;
  sampling.bad_words_ids = model.info.banned_words_ids;
  for (const std::string& word : bad_words) {
    sampling.bad_words_ids.push_back(model.tokenizer.Encode(word, SpecialText::kNone));
  }
  sampling.eos_token_ids = std::move(stop_ids);
  for (const int32_t id : model.info.prompt_eos_token_ids) {
    if (ignore_eos) {
      sampling.bad_words_ids.push_back({id});
    } else if (!sampling.IsEos(id)) {
      sampling.eos_token_ids.push_back(id);
    }
  }
}

void ReadDistribution(const ModelFacts& model, FieldReader* fields, SamplingParams* sampling) {
  sampling->temperature = model.options.default_temperature;
  fields->Number("temperature", 0, 2, &sampling->temperature);
  sampling->do_sample = sampling->temperature >= kSmallestTemperature;
  if (!sampling->do_sample) sampling->temperature = 1;
  sampling->top_k = 0;
  if (fields->Integer("top_k", -1, std::numeric_limits<int>::max(), &sampling->top_k)) {
    sampling->top_k = std::max(sampling->top_k, 0);
  }
  fields->Number("top_p", 0, 1, &sampling->top_p);
  fields->Number("min_p", 0, 1, &sampling->min_p);
  fields->Number("typical_p", 1e-9, 1, &sampling->typical_p);
  fields->Number("repetition_penalty", 1e-9, kMost, &sampling->repetition_penalty);
  fields->Number("presence_penalty", -2, 2, &sampling->presence_penalty);
  fields->Number("frequency_penalty", -2, 2, &sampling->frequency_penalty);
  fields->Integer("no_repeat_ngram_size", 0, 1 << 20, &sampling->no_repeat_ngram_size);
  int64_t seed = 0;
  if (fields->Integer("seed", std::numeric_limits<int64_t>::min(),
                      std::numeric_limits<int64_t>::max(), &seed)) {
    sampling->seed = static_cast<uint64_t>(seed);
  }
}

void ReadBeams(FieldReader* fields, SamplingParams* sampling) {
  constexpr int kMaxBeams = 16;
  fields->Integer("num_beams", 1, kMaxBeams, &sampling->num_beams);
  fields->Number("length_penalty", -kMost, kMost, &sampling->length_penalty);
  if (const json* early = fields->Find("early_stopping")) {
    if (IsText(*early, "never")) {
      sampling->early_stopping = EarlyStopping::kNever;
    } else if (early->is_boolean()) {
      sampling->early_stopping =
          early->get<bool>() ? EarlyStopping::kFirstFinished : EarlyStopping::kHeuristic;
    } else {
      fields->Fail("early_stopping", "early_stopping must be true, false or \"never\"");
    }
  }
  if (sampling->num_beams == 1) return;
  bool stream = false;
  fields->Bool("stream", &stream);
  if (sampling->do_sample || sampling->num_choices > 1 || stream) {
    fields->Fail("num_beams",
                 "num_beams is " + std::to_string(sampling->num_beams) +
                     ": beam search needs temperature 0, n 1 and no stream",
                 "unsupported_value");
  }
}

}  // namespace

void RefuseUnsupportedFields(FieldReader* fields) {
  for (const RefusedField& field : kRefused) fields->Refuse(field.name, field.why);
  RefuseGuidedAnswers(fields);
  RefuseForcedTools(fields);
  RefuseOtherModalities(fields);
  bool skip = true;
  fields->Bool("skip_special_tokens", &skip);
  if (!skip) {
    fields->Fail("skip_special_tokens", "skip_special_tokens must be true: answers are plain text",
                 "unsupported_value");
  }
  std::string user;
  fields->Text("user", &user);
}

void ReadSamplingFields(const ModelFacts& model, FieldReader* fields, GenerateRequest* request) {
  constexpr int kMaxChoices = 128;
  SamplingParams& sampling = request->sampling;
  fields->Integer("n", 1, kMaxChoices, &sampling.num_choices);
  ReadDistribution(model, fields, &sampling);
  fields->Integer("min_tokens", 0, sampling.max_new_tokens, &sampling.min_new_tokens);
  fields->Texts("stop", kMaxStops, kMaxStopBytes, &sampling.stop);
  fields->Bool("include_stop_str_in_output", &sampling.include_stop_string);
  ReadLogitBias(model.tokenizer.vocab_size(), fields, &sampling);
  ReadTokenLists(model, fields, request);
  ReadBeams(fields, &sampling);
}

void ReadStreamFields(const json& body, FieldReader* fields, CompletionRequest* out) {
  fields->Bool("stream", &out->stream);
  const json* options = fields->Find("stream_options");
  if (options == nullptr) return;
  if (!out->stream) {
    fields->Fail("stream_options", "stream_options needs \"stream\": true");
    return;
  }
  if (!options->is_object()) {
    fields->Fail("stream_options", "stream_options must be an object");
    return;
  }
  FieldReader inner(body["stream_options"], "stream_options");
  inner.Bool("include_usage", &out->include_usage);
  inner.Bool("continuous_usage_stats", &out->continuous_usage);
  bool obfuscation = false;
  inner.Bool("include_obfuscation", &obfuscation);
  if (inner.failed()) fields->Adopt(*inner.error());
}

}  // namespace idefics
