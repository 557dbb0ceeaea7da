// SPDX-License-Identifier: Apache-2.0
#include "predictor/engine/active_request.h"

#include <algorithm>
#include <random>
#include <utility>

namespace idefics {

int NumPlaces(const SamplingParams& sampling) {
  return std::max(sampling.num_beams, sampling.num_choices);
}

std::vector<int64_t> ExtentSizes(const EngineRequest& request) {
  const SamplingParams& sampling = request.sampling;
  const auto prompt = static_cast<int64_t>(request.tokens.size());
  const int64_t own = sampling.max_new_tokens;
  std::vector<int64_t> sizes{prompt + own};
  if (sampling.num_choices > 1) {  // each runs the prompt's last token by itself
    sizes.assign(sampling.num_choices + 1, own + 1);
    sizes.front() = std::max<int64_t>(prompt - 1, 1);
  } else if (sampling.num_beams > 1) {
    sizes.assign(sampling.num_beams + 1, own);
    sizes.front() = prompt;
  }
  return sizes;
}

TokenEvent ActiveChoice::TakeNewTokens(int index) {
  TokenEvent event;
  event.choice = index;
  const auto& tokens = search->new_tokens();
  const auto& logprobs = search->logprobs();
  const auto from = static_cast<ptrdiff_t>(reported);
  event.tokens.assign(tokens.begin() + from, tokens.end());
  if (!logprobs.empty()) event.logprobs.assign(logprobs.begin() + from, logprobs.end());
  reported = tokens.size();
  return event;
}

void ActiveRequest::Begin(bool runner_samples) {
  SamplingParams sampling = request.sampling;
  choices.resize(sampling.num_choices);
  const uint64_t seed = sampling.seed ? *sampling.seed : std::random_device{}();
  for (size_t i = 0; i < choices.size(); ++i) {
    sampling.seed = ChoiceSeed(seed, static_cast<int>(i));
    choices[i].search = MakeTokenSearch(sampling, request.tokens);
  }
  samples_on_device = runner_samples && choices.front().search->can_sample_on_device();
  const auto prompt = static_cast<int64_t>(request.tokens.size());
  max_tokens = prompt + sampling.max_new_tokens;
  token_image_slots.assign(prompt, -1);
  images.resize(request.images.size());
  for (int64_t t = 0; t < prompt; ++t) {
    if (request.image_index[t] < 0) continue;
    ImageUse& image = images.at(request.image_index[t]);
    if (image.end == 0) image.begin = t;
    image.end = t + 1;
  }
  for (int64_t t = 0; t < prompt; ++t) seen.Add(request.tokens[t], ImageOf(t));
}

// The image that the prompt token sees; empty: none.
const std::string& ActiveRequest::ImageOf(int64_t token) const {
  static const std::string kNone;
  const int32_t image = request.image_index[token];
  return image < 0 ? kNone : request.images.at(image).sha256;
}

void ActiveRequest::LearnTokens() {
  if (NumPlaces(request.sampling) > 1) return;
  const std::vector<int32_t>& tokens = choices.front().search->new_tokens();
  const int64_t prompt = max_tokens - request.sampling.max_new_tokens;
  const std::string& image = ImageOf(static_cast<int64_t>(request.tokens.size()) - 1);
  for (auto i = static_cast<size_t>(seen.size() - prompt); i < tokens.size(); ++i) {
    seen.Add(tokens[i], image);
  }
}

void ActiveRequest::StartChoices() {
  for (size_t i = 0; i < choices.size(); ++i) {
    sequences.push_back({extents[i + 1], request.tokens.back()});
  }
}

void ActiveRequest::Guess(int64_t most) {
  const std::vector<int32_t>& tokens = choices.front().search->new_tokens();
  const auto prompt = static_cast<size_t>(max_tokens - request.sampling.max_new_tokens);
  if (drafts.size() < prompt) drafts.Add(std::span(request.tokens).first(prompt));
  drafts.Add(std::span(tokens).subspan(drafts.size() - prompt));
  guess_tokens = drafts.Guess(most);
  guess_tokens.insert(guess_tokens.begin(), tokens.back());
  guess_image_slots.assign(guess_tokens.size(), token_image_slots.back());
}

void ActiveRequest::StartAgain() {
  LearnTokens();
  const std::vector<int32_t>& tokens = choices.front().search->new_tokens();
  const int64_t prompt = max_tokens - request.sampling.max_new_tokens;
  request.tokens.resize(prompt);
  request.tokens.insert(request.tokens.end(), tokens.begin(), tokens.end());
  const int32_t last_image = request.image_index.back();
  request.image_index.resize(request.tokens.size(), last_image);
  token_image_slots.resize(request.tokens.size(), -1);
  if (last_image >= 0) images[last_image].end = static_cast<int64_t>(request.tokens.size());
  sequences.clear();
  prompt_logprobs.clear();
  prompt_done = 0;
  length = 0;
  computed = 0;
}

// A decoded token sees what the last prompt token saw: docs/model.md#which-image-a-token-sees.
bool ActiveRequest::Needs(size_t image) const {
  const ImageUse& use = images[image];
  return use.end > prompt_done ||
         (use.end > 0 && std::cmp_equal(request.image_index.back(), image));
}

int ActiveRequest::num_places() const {
  if (finished()) return 0;
  if (sequences.empty() || !has_choices()) return NumPlaces(request.sampling);
  return static_cast<int>(std::count_if(sequences.begin(), sequences.end(),
                                        [](const Sequence& sequence) { return !sequence.ended; }));
}

size_t ActiveRequest::num_new_tokens() const {
  int choice = 0;
  while (has_ended(choice)) ++choice;
  return choices.at(choice).search->new_tokens().size();
}

}  // namespace idefics
