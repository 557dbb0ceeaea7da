// SPDX-License-Identifier: Apache-2.0
#include "server/cog/input_adapter.h"

#include <algorithm>

#include "predictor/text/image_reference.h"
#include "server/cog/input_validation.h"
#include "server/fetch/url_policy.h"

namespace idefics {
namespace {

using nlohmann::json;

void AddImage(const std::string& reference, OpenMode mode, PlannedRequest* plan) {
  PromptPart part;
  part.open_mode = mode;
  plan->image_parts.push_back(plan->request.prompt.size());
  plan->images.push_back(reference);
  plan->request.prompt.push_back(std::move(part));
}

void AddText(std::string text, SpecialText special, PlannedRequest* plan) {
  plan->request.prompt.push_back(PromptPart::Text(std::move(text), special));
}

// The original predictor's sequence (idefics-spec.md 5.3). Nothing in the user's text is special.
void PlanImageAndText(const json& input, PlannedRequest* plan) {
  plan->answer = AnswerText::kStripped;
  AddText("User: " + input["text"].get<std::string>(), SpecialText::kNone, plan);
  AddImage(input["image"], OpenMode::kPillowObject, plan);
  AddText("<end_of_utterance>", SpecialText::kTurns, plan);
  AddText("\nAssistant:", SpecialText::kTurns, plan);
}

std::string StripSpaces(const std::string& text) {
  const size_t begin = text.find_first_not_of(' ');
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

// transformers' rule for what is an image (idefics-spec.md 4.2, 4.3), data URIs added.
Status PlanPrompt(const json& prompt, InputOrigin origin, PlannedRequest* plan) {
  plan->answer = AnswerText::kNew;
  for (size_t i = 0; i < prompt.size(); ++i) {
    const auto& item = prompt[i].get_ref<const std::string&>();
    const std::string stripped = StripSpaces(item);
    const std::string where = "item " + std::to_string(i) + " of prompt";
    const bool is_file = origin == InputOrigin::kCommandLine && stripped.rfind("file:", 0) == 0;
    if (is_file || LooksLikeDataUri(stripped)) {
      AddImage(stripped, OpenMode::kUrl, plan);
      continue;
    }
    const Result<bool> is_url = LooksLikeUrl(stripped);
    if (!is_url.ok()) return is_url.status().WithPrefix(where);
    if (*is_url && !IsImageSource(stripped, InputOrigin::kHttp)) {
      return Status::InvalidInput(where + " is the URL '" + ShownUrl(stripped) +
                                  "': an image URL must begin with http:// or https://");
    }
    if (*is_url) {
      AddImage(stripped, OpenMode::kUrl, plan);
    } else {
      AddText(item, SpecialText::kTurns, plan);
    }
  }
  return Status::Ok();
}

Result<int32_t> TokenId(const json& value, const ModelInfo& info, const char* name) {
  const auto id = value.get<int64_t>();
  if (id < 0 || id >= info.vocab_size) {
    return Status::InvalidInput(std::string(name) + " holds token id " + value.dump() +
                                ", the model's ids go from 0 to " +
                                std::to_string(info.vocab_size - 1));
  }
  return static_cast<int32_t>(id);
}

Status PlanTokens(const json& input, const ModelInfo& info, SamplingParams* sampling) {
  sampling->eos_token_ids = info.default_eos_token_ids;
  if (input.contains("eos_token_id")) {
    const json& given = input["eos_token_id"];
    sampling->eos_token_ids.clear();
    for (const json& id : given.is_array() ? given : json::array({given})) {
      ASSIGN_OR_RETURN(const int32_t token, TokenId(id, info, "eos_token_id"));
      sampling->eos_token_ids.push_back(token);
    }
  }
  // An image token in an answer is never of use, so the user's list comes on top of these.
  sampling->bad_words_ids = info.default_bad_words_ids;
  if (!input.contains("bad_words_ids")) return Status::Ok();
  for (const json& word : input["bad_words_ids"]) {
    std::vector<int32_t> ids;
    for (const json& id : word) {
      ASSIGN_OR_RETURN(const int32_t token, TokenId(id, info, "bad_words_ids"));
      ids.push_back(token);
    }
    sampling->bad_words_ids.push_back(std::move(ids));
  }
  return Status::Ok();
}

EarlyStopping EarlyStoppingOf(const json& value) {
  if (value.is_string()) return EarlyStopping::kNever;
  return value.get<bool>() ? EarlyStopping::kFirstFinished : EarlyStopping::kHeuristic;
}

Status PlanSampling(const json& input, SamplingParams* sampling) {
  sampling->max_new_tokens = input["max_new_tokens"];
  sampling->min_new_tokens = input["min_new_tokens"];
  sampling->repetition_penalty = input["repetition_penalty"];
  sampling->no_repeat_ngram_size = input["no_repeat_ngram_size"];
  sampling->num_beams = input["num_beams"];
  sampling->length_penalty = input["length_penalty"];
  sampling->early_stopping = EarlyStoppingOf(input["early_stopping"]);
  if (input.contains("stop")) sampling->stop = input["stop"].get<std::vector<std::string>>();
  if (input.contains("seed")) sampling->seed = input["seed"].get<uint64_t>();
  sampling->do_sample = input["decoding_strategy"] == "Top P Sampling";
  if (sampling->min_new_tokens > sampling->max_new_tokens) {
    return Status::InvalidInput("min_new_tokens is " + std::to_string(sampling->min_new_tokens) +
                                ", more than max_new_tokens, which is " +
                                std::to_string(sampling->max_new_tokens));
  }
  if (!sampling->do_sample) return Status::Ok();
  sampling->temperature = input["temperature"];
  sampling->top_p = input["top_p"];
  sampling->top_k = input["top_k"];
  sampling->min_p = input["min_p"];
  sampling->typical_p = input["typical_p"];
  if (sampling->temperature <= 0) {
    return Status::InvalidInput(
        "temperature is 0 and decoding_strategy is Top P Sampling, which needs a temperature above "
        "0: use Greedy");
  }
  if (sampling->num_beams > 1) {
    return Status::InvalidInput(
        "num_beams is " + std::to_string(sampling->num_beams) +
        " and decoding_strategy is Top P Sampling: beam search needs Greedy");
  }
  return Status::Ok();
}

}  // namespace

Result<PlannedRequest> PlanRequest(const json& input, const ModelInfo& info, InputOrigin origin,
                                   int max_images) {
  PlannedRequest plan;
  if (input.contains("prompt")) {
    RETURN_IF_ERROR(PlanPrompt(input["prompt"], origin, &plan));
  } else {
    PlanImageAndText(input, &plan);
  }
  if (info.max_images > 0) max_images = std::min(max_images, info.max_images);
  if (static_cast<int>(plan.images.size()) > max_images) {
    return Status::TooLarge("the prompt has " + std::to_string(plan.images.size()) +
                            " images, the limit is " + std::to_string(max_images) +
                            " (--max-images)");
  }
  if (input["return_full_text"] == true) plan.answer = AnswerText::kFull;
  plan.request.add_end_of_utterance = input["add_end_of_utterance_token"];
  RETURN_IF_ERROR(PlanSampling(input, &plan.request.sampling));
  RETURN_IF_ERROR(PlanTokens(input, info, &plan.request.sampling));
  return plan;
}

void AttachImages(const std::vector<ImageBytes>& files, PlannedRequest* plan) {
  IDEFICS_CHECK_EQ(files.size(), plan->image_parts.size());
  for (size_t i = 0; i < files.size(); ++i) {
    plan->request.prompt[plan->image_parts[i]].image_file = files[i];
  }
}

}  // namespace idefics
