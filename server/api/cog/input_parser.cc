// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/input_parser.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "common/ascii.h"
#include "predictor/text/image_reference.h"
#include "server/api/cog/input_validation.h"
#include "server/fetch/url_policy.h"

namespace idefics {
namespace {

using nlohmann::json;

// The original predictor's sequence (docs/model.md#the-original-predictor). Nothing in the user's
// text is special.
void ReadQuestion(const json& input, Task* task) {
  task->response = ResponseText::kStripped;
  task->request.token_defaults = TokenDefaults::kQuestion;
  task->request.prompt = {
      PromptText{"User: " + input["text"].get<std::string>(), SpecialText::kNone},
      PromptImage{input["image"], ImagePolicy::kAlphaOverWhite, nullptr},
      PromptText{"<end_of_utterance>", SpecialText::kTurns},
      PromptText{"\nAssistant:", SpecialText::kTurns}};
}

// transformers' rule for what is an image (docs/model.md#what-counts-as-a-url), data URIs added.
Result<PromptPiece> ReadPiece(const std::string& item, InputOrigin origin) {
  const std::string stripped(StripSpaces(item));
  const PromptImage image{stripped, ImagePolicy::kUprightAlphaDropped, nullptr};
  const bool is_file = origin == InputOrigin::kCommandLine && stripped.starts_with("file:");
  if (is_file || LooksLikeDataUri(stripped)) return PromptPiece(image);
  ASSIGN_OR_RETURN(const bool is_url, LooksLikeUrl(stripped));
  if (!is_url) return PromptPiece(PromptText{item, SpecialText::kTurns});
  if (IsImageSource(stripped, InputOrigin::kHttp)) return PromptPiece(image);
  return Status::InvalidInput("it is the URL '" + ShownUrl(stripped) +
                              "', and an image URL must begin with http:// or https://");
}

Status ReadPrompt(const json& prompt, InputOrigin origin, Task* task) {
  task->response = ResponseText::kNew;
  task->request.token_defaults = TokenDefaults::kPrompt;
  for (size_t i = 0; i < prompt.size(); ++i) {
    Result<PromptPiece> piece = ReadPiece(prompt[i].get_ref<const std::string&>(), origin);
    if (!piece.ok()) return piece.status().WithPrefix("item " + std::to_string(i) + " of prompt");
    task->request.prompt.push_back(std::move(piece).value());
  }
  return Status::Ok();
}

// Ids beyond 32 bits are outside every vocabulary; the engine refuses them by name.
int32_t TokenId(const json& value) {
  constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();
  return static_cast<int32_t>(std::min(value.get<int64_t>(), kLargest));
}

std::vector<int32_t> TokenIds(const json& values) {
  std::vector<int32_t> ids;
  for (const json& value : values) ids.push_back(TokenId(value));
  return ids;
}

// Scores are divided by it as 32-bit floats: a smaller one makes them infinite. 0 is the engine's
// to refuse.
Status CheckTemperature(const SamplingParams& sampling) {
  constexpr double kSmallest = 1e-5;
  if (!sampling.do_sample || sampling.temperature <= 0 || sampling.temperature >= kSmallest) {
    return Status::Ok();
  }
  return Status::InvalidInput(
      "temperature is below 0.00001, the smallest that sampling can compute with (for the most "
      "likely tokens use greedy decoding)");
}

EarlyStopping EarlyStoppingOf(const json& value) {
  if (value.is_string()) return EarlyStopping::kNever;
  return value.get<bool>() ? EarlyStopping::kFirstFinished : EarlyStopping::kHeuristic;
}

void ReadSampling(const json& input, SamplingParams* sampling) {
  sampling->max_new_tokens = input["max_new_tokens"];
  sampling->min_new_tokens = input["min_new_tokens"];
  sampling->repetition_penalty = input["repetition_penalty"];
  sampling->no_repeat_ngram_size = input["no_repeat_ngram_size"];
  sampling->num_beams = input["num_beams"];
  sampling->length_penalty = input["length_penalty"];
  sampling->early_stopping = EarlyStoppingOf(input["early_stopping"]);
  sampling->do_sample = input["decoding_strategy"] == "Top P Sampling";
  sampling->temperature = input["temperature"];
  sampling->top_p = input["top_p"];
  sampling->top_k = input["top_k"];
  sampling->min_p = input["min_p"];
  sampling->typical_p = input["typical_p"];
  if (input.contains("stop")) sampling->stop = input["stop"].get<std::vector<std::string>>();
  if (input.contains("seed")) sampling->seed = input["seed"].get<uint64_t>();
  if (const auto eos = input.find("eos_token_id"); eos != input.end()) {
    sampling->eos_token_ids = eos->is_array() ? TokenIds(*eos) : TokenIds(json::array({*eos}));
  }
  if (const auto words = input.find("bad_words_ids"); words != input.end()) {
    for (const json& word : *words) sampling->bad_words_ids.push_back(TokenIds(word));
  }
}

}  // namespace

Task ParseInput(const json& input, InputOrigin origin) {
  Task task;
  if (input.contains("prompt")) {
    task.refusal = ReadPrompt(input["prompt"], origin, &task);
  } else {
    ReadQuestion(input, &task);
  }
  if (input["return_full_text"] == true) task.response = ResponseText::kFull;
  task.request.add_end_of_utterance = input["add_end_of_utterance_token"];
  ReadSampling(input, &task.request.sampling);
  if (task.refusal.ok()) task.refusal = CheckTemperature(task.request.sampling);
  return task;
}

}  // namespace idefics
