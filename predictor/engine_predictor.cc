// SPDX-License-Identifier: Apache-2.0
#include "predictor/engine_predictor.h"

#include <chrono>

#include "predictor/text/detokenizer.h"
#include "predictor/text/stop_matcher.h"

namespace idefics {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Result<EngineImage> EnginePredictor::PrepareImage(const PromptPart& part,
                                                  const std::stop_token& stop) const {
  ASSIGN_OR_RETURN(ModelImage image,
                   PreprocessImage(*part.image_file, part.open_mode, parts_.processor,
                                   parts_.image_limits, {stop, {}}));
  EngineImage prepared;
  prepared.sha256 = std::move(image.sha256);
  prepared.pixels.resize(image.rgb.size());
  NormalizePixels(image.rgb, parts_.processor, prepared.pixels);
  return prepared;
}

Result<EngineRequest> EnginePredictor::Prepare(const GenerateRequest& request,
                                               const std::stop_token& stop) const {
  if (request.prompt.empty()) {
    return Status::InvalidInput("the prompt is empty: give at least one text or image");
  }
  EngineRequest prepared;
  std::vector<PromptItem> items;
  for (const PromptPart& part : request.prompt) {
    if (stop.stop_requested()) return Status(ErrorCode::kCanceled, "canceled");
    if (!part.is_image()) {
      items.push_back(PromptItem::Text(part.text, part.special));
      continue;
    }
    items.push_back(PromptItem::Image());
    Result<EngineImage> image = PrepareImage(part, stop);
    if (!image.ok()) {
      return image.status().WithPrefix("image " + std::to_string(prepared.images.size() + 1));
    }
    prepared.images.push_back(std::move(image).value());
  }
  TokenizedPrompt prompt = BuildPrompt(*parts_.tokenizer, items, request.add_end_of_utterance);
  prepared.tokens = std::move(prompt.tokens);
  prepared.image_index = std::move(prompt.image_index);
  prepared.sampling = request.sampling;
  return prepared;
}

// Turns token events into text until the last event, or until a stop string is complete: then the
// engine is told to drop the request, and tokens that it had computed since are ignored.
void EnginePredictor::Follow(Generation& generation, const GenerateRequest& request,
                             const TextCallback& on_text, GenerateResult* result) const {
  Detokenizer detokenizer(*parts_.tokenizer);
  StopMatcher matcher(request.sampling.stop);
  std::string decoded;  // without regard to stop strings
  const auto show = [&](const std::string& text) {
    decoded += text;
    const std::string safe = matcher.Push(text);
    result->text += safe;
    if (on_text && !safe.empty()) on_text(safe);
  };
  TokenEvent event;
  while (!event.finished) {
    if (!generation.Next(&event, Clock::now() + std::chrono::hours(1))) continue;
    for (size_t i = 0; i < event.tokens.size() && !matcher.matched(); ++i) {
      result->token_ids.push_back(event.tokens[i]);
      if (i < event.logprobs.size()) result->logprobs.push_back(std::move(event.logprobs[i]));
      show(detokenizer.Push(event.tokens[i]));
    }
    if (matcher.matched()) generation.Cancel();
  }
  if (!matcher.matched()) show(detokenizer.Finish());
  const std::string rest = matcher.Finish();
  result->text += rest;
  if (on_text && !rest.empty()) on_text(rest);

  const bool stopped = matcher.matched();
  result->status = stopped ? Status::Ok() : event.status;
  result->finish_reason = stopped ? FinishReason::kStopString : event.finish_reason;
  std::vector<int32_t> all = result->prompt_token_ids;
  all.insert(all.end(), result->token_ids.begin(), result->token_ids.end());
  result->full_text = parts_.tokenizer->Decode(all, /*skip_special=*/true);
  result->full_text.resize(result->full_text.size() - (decoded.size() - result->text.size()));
}

PredictorHealth EnginePredictor::health() const {
  const EngineStats stats = parts_.engine->stats();
  return {stats.broken, stats.turn_s};
}

GenerateResult EnginePredictor::Generate(const GenerateRequest& request, std::stop_token stop,
                                         const TextCallback& on_text) {
  const auto start = Clock::now();
  GenerateResult result;
  Result<EngineRequest> prepared = Prepare(request, stop);
  result.timings.preprocess_s = SecondsSince(start);
  if (!prepared.ok()) {
    result.status = prepared.status();
    result.timings.total_s = SecondsSince(start);
    return result;
  }
  result.prompt_token_ids = prepared->tokens;
  result.num_images = static_cast<int>(prepared->images.size());
  const auto submitted = Clock::now();
  Result<std::shared_ptr<Generation>> generation =
      parts_.engine->Submit(std::move(prepared).value());
  if (!generation.ok()) {
    result.status = generation.status();
    result.timings.total_s = SecondsSince(start);
    return result;
  }
  const std::stop_callback cancel(stop, [&] { (*generation)->Cancel(); });
  TextCallback timed = [&](std::string_view piece) {
    if (result.timings.first_token_s == 0) result.timings.first_token_s = SecondsSince(start);
    if (on_text) on_text(piece);
  };
  Follow(**generation, request, timed, &result);
  const auto admitted = (*generation)->admitted_at();
  if (admitted != Clock::time_point{}) {
    result.timings.queue_s = std::chrono::duration<double>(admitted - submitted).count();
  }
  result.timings.total_s = SecondsSince(start);
  return result;
}

}  // namespace idefics
