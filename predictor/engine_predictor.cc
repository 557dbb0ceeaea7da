// SPDX-License-Identifier: Apache-2.0
#include "predictor/engine_predictor.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <limits>

#include "predictor/choice_writer.h"

namespace idefics {
namespace {

using Clock = std::chrono::steady_clock;

int CountImageTokens(const std::vector<int32_t>& tokens, const SpecialTokens& special) {
  return static_cast<int>(std::count_if(tokens.begin(), tokens.end(), [&](int32_t token) {
    return token == special.image || token == special.fake_image;
  }));
}

}  // namespace

Result<EngineImage> EnginePredictor::PrepareImage(const PromptImage& image,
                                                  const std::stop_token& stop) const {
  DecodeMemory::Share memory(parts_.decode_memory.get());
  const DecodeControl control{stop, [&](int64_t bytes) { return memory.Take(bytes, stop); }};
  ASSIGN_OR_RETURN(ModelImage shown, PreprocessImage(*image.file, image.policy, parts_.processor,
                                                     parts_.image_limits, control));
  EngineImage prepared;
  prepared.sha256 = std::move(shown.sha256);
  prepared.pixels.resize(shown.rgb.size());
  NormalizePixels(shown.rgb, parts_.processor, prepared.pixels);
  return prepared;
}

// The prompt's tokens before the tokens of each choice. The first one follows nothing.
void EnginePredictor::ShowPrompt(std::span<const TokenLogprobs> logprobs,
                                 const GenerateResult& result, GenerateObserver& observer) {
  std::vector<TokenLogprobs> all(1);
  all[0].logprob = std::numeric_limits<float>::quiet_NaN();
  all.insert(all.end(), logprobs.begin(), logprobs.end());
  for (size_t i = 0; i < result.choices.size(); ++i) {
    observer.OnText({"", static_cast<int>(i), result.prompt_token_ids, all});
  }
}

// The request's own words, and the model's defaults where it has none.
SamplingParams EnginePredictor::ResolveSampling(const GenerateRequest& request) const {
  const ModelInfo& info = parts_.info;
  SamplingParams sampling = request.sampling;
  if (request.token_defaults == TokenDefaults::kNone) return sampling;
  if (sampling.eos_token_ids.empty()) {
    sampling.eos_token_ids = request.token_defaults == TokenDefaults::kQuestion
                                 ? info.question_eos_token_ids
                                 : info.prompt_eos_token_ids;
  }
  sampling.bad_words_ids.insert(sampling.bad_words_ids.begin(), info.banned_words_ids.begin(),
                                info.banned_words_ids.end());
  return sampling;
}

Result<EngineRequest> EnginePredictor::Prepare(const GenerateRequest& request,
                                               const std::stop_token& stop) const {
  if (request.prompt.empty()) {
    return Status::InvalidInput("the prompt is empty: give at least one text or image");
  }
  RETURN_IF_ERROR(CheckTextBytes(*parts_.tokenizer, request.prompt,
                                 parts_.engine->options().max_sequence_tokens));
  EngineRequest prepared;
  for (const PromptPiece& piece : request.prompt) {
    if (stop.stop_requested()) return Status(ErrorCode::kCanceled, "canceled");
    const auto* image = std::get_if<PromptImage>(&piece);
    if (image == nullptr) continue;
    Result<EngineImage> shown = PrepareImage(*image, stop);
    if (!shown.ok()) {
      const auto index = static_cast<int>(prepared.images.size());
      return shown.status().WithPrefix("image " + std::to_string(index + 1)).WithItem(index);
    }
    prepared.images.push_back(std::move(shown).value());
  }
  TokenizedPrompt prompt =
      BuildPrompt(*parts_.tokenizer, request.prompt, request.add_end_of_utterance);
  prepared.tokens = std::move(prompt.tokens);
  prepared.image_index = std::move(prompt.image_index);
  prepared.client = request.client;
  prepared.sampling = ResolveSampling(request);
  RETURN_IF_ERROR(CheckSampling(prepared.sampling, parts_.engine->limits().vocab_size));
  // Without sampling all choices are equal: one is computed.
  if (!prepared.sampling.do_sample) prepared.sampling.num_choices = 1;
  if (request.cut_to_context) prepared.sampling.max_new_tokens = FittingNewTokens(prepared);
  return prepared;
}

// Turns token events into text until the last event. A choice whose stop string is complete is
// dropped by the engine; tokens that it had computed since are ignored.
void EnginePredictor::Follow(RequestHandle& handle, const SamplingParams& sampling,
                             GenerateObserver& observer, GenerateResult* result) const {
  std::deque<ChoiceWriter> writers;
  for (Choice& choice : result->choices) {
    const auto index = static_cast<int>(writers.size());
    writers.emplace_back(*parts_.tokenizer, sampling, index, observer, &choice);
  }
  const auto take = [&](ChoiceWriter& writer, const TokenEvent& event) {
    if (writer.finished()) return;
    writer.Add(event.tokens, event.logprobs);
    if (writer.stopped()) handle.DropChoice(event.choice);
    if (writer.stopped() || event.choice_finished) {
      writer.Finish(event.finish_reason, result->prompt_token_ids);
    }
  };
  TokenEvent event;
  while (!event.finished) {
    if (!handle.Next(&event, Clock::now() + std::chrono::hours(1))) continue;
    if (event.prompt_scored) ShowPrompt(event.prompt_logprobs, *result, observer);
    if (!event.tokens.empty() && result->timings.first_token_at == Clock::time_point{}) {
      result->timings.first_token_at = Clock::now();
    }
    if (sampling.num_choices > 1) {
      take(writers.at(event.choice), event);
    } else {  // all choices are equal
      for (ChoiceWriter& writer : writers) take(writer, event);
    }
  }
  const auto finished = [](const ChoiceWriter& writer) { return writer.finished(); };
  const bool all_finished = std::all_of(writers.begin(), writers.end(), finished);
  result->status = all_finished ? Status::Ok() : event.status;
  for (ChoiceWriter& writer : writers) {
    if (!writer.finished()) writer.Finish(event.finish_reason, result->prompt_token_ids);
  }
}

// max_new_tokens, cut to what there is room for; 1 where there is none, for the engine to refuse.
int EnginePredictor::FittingNewTokens(const EngineRequest& request) const {
  const SamplingParams& sampling = request.sampling;
  const auto prompt = static_cast<int64_t>(request.tokens.size());
  const int64_t context = parts_.engine->options().max_sequence_tokens - prompt;
  int64_t cache = parts_.engine->limits().kv_tokens - prompt;
  cache = sampling.num_choices > 1 ? cache / sampling.num_choices - 1 : cache / sampling.num_beams;
  return static_cast<int>(
      std::min<int64_t>(sampling.max_new_tokens, std::max<int64_t>(1, std::min(context, cache))));
}

PredictorHealth EnginePredictor::health() const {
  const EngineStats stats = parts_.engine->stats();
  return {stats.broken, stats.turn_s, ""};
}

PredictorStats EnginePredictor::stats() const {
  const EngineStats now = parts_.engine->stats();
  const RunnerLimits& limits = parts_.engine->limits();
  PredictorStats stats;
  stats.running = now.running;
  stats.waiting = now.waiting;
  stats.max_running = parts_.engine->options().max_num_seqs;
  stats.kv_tokens = limits.kv_tokens;
  stats.kv_tokens_used = now.kv_tokens_used;
  stats.kv_tokens_cached = now.kv_tokens_cached;
  stats.image_slots = limits.image_cache_slots;
  stats.image_hits = now.image_hits;
  stats.image_misses = now.image_misses;
  stats.steps = now.steps;
  stats.preemptions = now.preemptions;
  return stats;
}

GenerateResult EnginePredictor::Generate(const GenerateRequest& request, std::stop_token stop,
                                         GenerateObserver& observer) {
  const auto start = Clock::now();
  GenerateResult result;
  Result<EngineRequest> prepared = Prepare(request, stop);
  const auto submitted = Clock::now();
  result.timings.preprocess_s = std::chrono::duration<double>(submitted - start).count();
  if (!prepared.ok()) {
    result.status = prepared.status();
    return result;
  }
  result.prompt_token_ids = prepared->tokens;
  result.num_images = static_cast<int>(prepared->images.size());
  result.num_image_tokens = CountImageTokens(prepared->tokens, parts_.tokenizer->special());
  observer.OnPrompt(static_cast<int>(result.prompt_token_ids.size()), result.num_image_tokens);
  const SamplingParams sampling = prepared->sampling;
  Result<std::shared_ptr<RequestHandle>> handle =
      parts_.engine->Submit(std::move(prepared).value());
  if (!handle.ok()) {
    result.status = handle.status();
    return result;
  }
  result.choices.resize(request.sampling.num_choices);
  const std::stop_callback cancel(stop, [&] { (*handle)->Cancel(); });
  Follow(**handle, sampling, observer, &result);
  result.num_cached_tokens = (*handle)->cached_tokens();
  result.timings.encode_began_at = (*handle)->encode_began_at();
  result.timings.encode_ended_at = (*handle)->encode_ended_at();
  const auto admitted = (*handle)->admitted_at();
  if (admitted != Clock::time_point{}) {
    result.timings.queue_s = std::chrono::duration<double>(admitted - submitted).count();
  }
  return result;
}

}  // namespace idefics
