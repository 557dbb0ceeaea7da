// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/input_table.h"

#include <sstream>
#include <string>
#include <vector>

namespace idefics {
namespace {

using nlohmann::json;

// Names, order, defaults and limits of the first seven: the original predictor
// (chenxwh/cog-idefics). All others carry transformers' names. Long because it is one table.
std::vector<InputSpec> MakeTable() {
  const json token = {{"type", "integer"}, {"minimum", 0}};
  const auto tokens = [&](int most) -> json {
    return {{"type", "array"}, {"items", token}, {"minItems", 1}, {"maxItems", most}};
  };
  return {
      {"image",
       {{"type", "string"}, {"format", "uri"}},
       nullptr,
       "Image to show the model: an http(s) URL or a data URI. Not needed when prompt is given."},
      {"text",
       {{"type", "string"}},
       nullptr,
       "Question or instruction about the image. Not needed when prompt is given."},
      {"max_new_tokens",
       {{"type", "integer"}, {"minimum", 8}, {"maximum", 1024}},
       512,
       "Upper bound on generated tokens."},
      {"repetition_penalty",
       {{"type", "number"}, {"minimum", 0.01}, {"maximum", 5}},
       1,
       "Penalty on tokens that already occurred, prompt included; 1.0 disables it."},
      {"decoding_strategy",
       {{"type", "string"}, {"enum", {"Greedy", "Top P Sampling"}}},
       "Greedy",
       "How the next token is picked."},
      {"temperature",
       {{"type", "number"}, {"minimum", 0}, {"maximum", 5}},
       0.4,
       "Softmax temperature; used by Top P Sampling only, which needs it above 0."},
      {"top_p",
       {{"type", "number"}, {"minimum", 0.01}, {"maximum", 0.99}},
       0.8,
       "Nucleus mass; used by Top P Sampling only."},
      {"prompt",
       {{"type", "array"}, {"items", {{"type", "string"}}}, {"minItems", 1}, {"maxItems", 1024}},
       nullptr,
       "Instead of image and text: texts and images in order, as transformers' IDEFICS processor "
       "takes them; an item that is an http(s) URL or a data URI is an image. Answers with the new "
       "text only."},
      {"return_full_text",
       {{"type", "boolean"}},
       false,
       "Answer with the prompt's text before the new text."},
      {"min_new_tokens",
       {{"type", "integer"}, {"minimum", 0}, {"maximum", 1024}},
       0,
       "The answer does not end before so many tokens."},
      {"top_k",
       {{"type", "integer"}, {"minimum", 0}, {"maximum", 1000000}},
       50,
       "Keep the k likeliest tokens; 0 keeps all. Used by Top P Sampling only."},
      {"min_p",
       {{"type", "number"}, {"minimum", 0}, {"maximum", 1}},
       0,
       "Drop tokens less likely than this share of the likeliest one; 0 drops none. Used by Top P "
       "Sampling only."},
      {"typical_p",
       {{"type", "number"}, {"minimum", 0.01}, {"maximum", 1}},
       1,
       "Locally typical sampling mass; 1.0 disables it. Used by Top P Sampling only."},
      {"no_repeat_ngram_size",
       {{"type", "integer"}, {"minimum", 0}, {"maximum", 1024}},
       0,
       "No sequence of so many tokens occurs twice; 0 disables it."},
      {"bad_words_ids",
       {{"type", "array"}, {"items", tokens(256)}, {"minItems", 1}, {"maxItems", 10000}},
       nullptr,
       "Token sequences that must not be generated, besides the image tokens, which never are."},
      {"eos_token_id",
       {{"anyOf", {token, tokens(64)}}},
       nullptr,
       "Token id, or list of ids, that ends the answer; by default <end_of_utterance> where the "
       "model has it, else </s>."},
      {"num_beams",
       {{"type", "integer"}, {"minimum", 1}, {"maximum", 16}},
       1,
       "Beams of beam search; 1 disables it. Needs decoding_strategy Greedy."},
      {"length_penalty",
       {{"type", "number"}, {"minimum", -10}, {"maximum", 10}},
       1,
       "Exponent on the length in beam search; above 0 favours longer answers."},
      {"early_stopping",
       {{"anyOf", {{{"type", "boolean"}}, {{"enum", {"never"}}}}}},
       false,
       "When beam search ends: true with num_beams finished answers, false when a better one is "
       "unlikely, \"never\" when none can be better."},
      {"seed",
       {{"type", "integer"}, {"minimum", 0}, {"maximum", 9223372036854775807LL}},
       nullptr,
       "Seed of sampling; by default a fresh one."},
      {"add_end_of_utterance_token",
       {{"type", "boolean"}},
       false,
       "Put <end_of_utterance> between two neighbouring texts of prompt."},
      {"stop",
       {{"type", "array"}, {"items", {{"type", "string"}, {"minLength", 1}}}, {"maxItems", 64}},
       nullptr,
       "Strings at which the answer is cut off; they are not part of it."},
  };
}

}  // namespace

std::span<const InputSpec> AllInputs() {
  static const std::vector<InputSpec>* const table = new std::vector<InputSpec>(MakeTable());
  return *table;
}

json InputSchema(const InputSpec& spec, InputOrigin origin) {
  json schema = spec.schema;
  if (origin == InputOrigin::kCommandLine && std::string(spec.name) == "max_new_tokens") {
    schema["minimum"] = 1;
  }
  return schema;
}

std::string InputsHelp() {
  std::ostringstream out;
  for (const InputSpec& spec : AllInputs()) {
    out << "  " << spec.name;
    const json schema = InputSchema(spec, InputOrigin::kCommandLine);
    if (schema.contains("enum")) out << " " << schema["enum"].dump();
    if (schema.contains("type") && !schema.contains("enum")) {
      out << " (" << schema["type"].get<std::string>();
      if (schema.contains("minimum")) out << ", from " << schema["minimum"];
      if (schema.contains("maximum")) out << " to " << schema["maximum"];
      out << ")";
    }
    if (!spec.default_value.is_null()) out << " [" << spec.default_value.dump() << "]";
    out << "\n      " << spec.description << "\n";
  }
  return out.str();
}

}  // namespace idefics
