// SPDX-License-Identifier: Apache-2.0
// Steps of the engine: plan, start, collect. What becomes of their results is in engine_commit.cc.
#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "common/check.h"
#include "common/log.h"
#include "predictor/engine/engine.h"

namespace idefics {
namespace {

void PlanPrefix(const ActiveRequest& active, StepRow* row) {
  if (active.prefix == nullptr) return;
  row->shared_start = active.prefix->start;
  row->shared_tokens = static_cast<int32_t>(active.prefix_tokens);
}

}  // namespace

// Starts the next step and collects the one before, so that the runner has work while the host
// looks at tokens.
void Engine::TakeStep() {
  bool started = false;
  if (in_flight_.empty() || CanScheduleAsync()) {
    MakeRoom();
    StepPlan plan = Plan();
    started = !plan.rows.empty();
    if (started) Start(std::move(plan));
  }
  const bool full = in_flight_.size() == kMaxStepsInFlight;
  if (full || (!in_flight_.empty() && (!started || !CanScheduleAsync()))) CollectOldest();
}

// Whether the next step may start before those in flight are collected: only requests whose tokens
// the host samples need the results first.
bool Engine::CanScheduleAsync() const {
  return std::all_of(in_flight_.begin(), in_flight_.end(), [](const StepPlan& step) {
    return std::all_of(step.parts.begin(), step.parts.end(), [](const StepPart& part) {
      return part.active->samples_on_device || part.num_logits == 0;
    });
  });
}

// All decode rows, then prompt chunks until the token budget is used up. The budget beside decode
// rows is small, because it is the time by which an arrival delays them.
Engine::StepPlan Engine::Plan() {
  StepPlan plan;
  FollowLeaders();
  for (ActiveRequest& active : active_) {
    if (active.finished()) continue;
    if (active.sequences.empty() && active.has_choices()) StartChoices(active);
    if (active.sequences.empty()) continue;
    const size_t coming = active.num_new_tokens() + active.tokens_in_flight;
    const bool last_is_coming = active.tokens_in_flight > 0 &&
                                std::cmp_equal(coming, active.request.sampling.max_new_tokens);
    if (!last_is_coming) PlanDecode(active, &plan);
  }
  PlanPrompts(plan.rows.empty() ? options_.max_num_batched_tokens : options_.max_prefill_chunk,
              &plan);
  return plan;
}

// Each client has an equal part of the budget, which its prompts use in order of arrival; then, in
// that order, they use what others leave.
void Engine::PlanPrompts(int64_t budget, StepPlan* plan) {
  struct Prompt {
    ActiveRequest* active;
    int64_t ready;  // tokens
    int64_t count;  // of these, in this step
  };
  std::vector<Prompt> prompts;
  std::map<std::string_view, int64_t> parts;  // what is left of each client's
  for (ActiveRequest& active : active_) {
    if (!active.runs_prompt()) continue;
    const int64_t ready = TokensToRun(active);
    if (ready == 0) continue;
    prompts.push_back({&active, ready, 0});
    parts[active.request.client] = 0;
  }
  for (auto& [client, part] : parts) part = std::max<int64_t>(1, budget / std::ssize(parts));
  for (Prompt& prompt : prompts) {
    int64_t& part = parts[prompt.active->request.client];
    prompt.count = std::min({prompt.ready, part, budget});
    part -= prompt.count;
    budget -= prompt.count;
  }
  for (const Prompt& prompt : prompts) {
    const int64_t more = std::min(prompt.ready - prompt.count, budget);
    budget -= more;
    if (prompt.count + more > 0) PlanPrompt(*prompt.active, prompt.count + more, plan);
  }
}

// Prompt tokens whose images are there, as many as may run in one step.
int64_t Engine::TokensToRun(const ActiveRequest& active) const {
  const int64_t ready = std::min(ReadyTokens(active), active.prefill_tokens()) - active.prompt_done;
  constexpr int64_t kMostScored = 64;  // a row of logits for each
  return active.scores_prompt() ? std::min(ready, kMostScored) : ready;
}

// The choices go on from the prompt once it is in the arena and the image that they see is encoded.
void Engine::StartChoices(ActiveRequest& active) const {
  if (!active.prompt_is_done() || ReadyTokens(active) == active.prompt_done) return;
  const int32_t image = active.request.image_index.back();
  active.token_image_slots.back() = image < 0 ? -1 : active.images[image].slot;
  active.StartChoices();
}

// Its next `count` tokens.
void Engine::PlanPrompt(ActiveRequest& active, int64_t count, StepPlan* plan) {
  for (int64_t t = active.prompt_done; t < active.prompt_done + count; ++t) {
    const int32_t image = active.request.image_index[t];
    active.token_image_slots[t] = image < 0 ? -1 : active.images[image].slot;
  }
  StepRow row;
  row.tokens = std::span(active.request.tokens).subspan(active.prompt_done, count);
  row.image_slots = std::span(active.token_image_slots).subspan(active.prompt_done, count);
  row.position = static_cast<int32_t>(active.prompt_done);
  row.kv_start = active.extents.front();
  PlanPrefix(active, &row);
  const bool is_last = active.prompt_done + count == active.prefill_tokens();
  row.wants_logits = (is_last && !active.has_choices()) || active.scores_prompt();
  if (active.scores_prompt()) row.num_logits = static_cast<int32_t>(count);
  if (row.wants_logits) PlanSampling(active, 0, &row);
  plan->rows.push_back(row);
  const auto num_logits = static_cast<size_t>(row.wants_logits ? row.num_logits : 0);
  plan->parts.push_back({&active, 1, count, num_logits, {}});
}

void Engine::PlanDecode(ActiveRequest& active, StepPlan* plan) {
  StepPart part{&active, 0, 0, 0, {}};
  for (size_t i = 0; i < active.sequences.size(); ++i) {
    const Sequence& sequence = active.sequences[i];
    if (sequence.ended) continue;
    StepRow row;
    row.tokens = std::span(&sequence.last_token, 1);
    // It sees what the last prompt token saw: docs/model.md#which-image-a-token-sees.
    row.image_slots = std::span(&active.token_image_slots.back(), 1);
    row.position = static_cast<int32_t>(active.length);
    row.kv_start = sequence.kv_start;
    if (active.shares_prompt()) {
      row.shared_start = active.extents.front();
      row.shared_tokens = static_cast<int32_t>(active.shared_tokens());
    }
    PlanPrefix(active, &row);
    PlanSampling(active, active.has_choices() ? i : 0, &row);
    if (MayGuess(active)) PlanGuesses(active, &row);
    plan->rows.push_back(row);
    ++part.rows;
    part.num_logits += static_cast<size_t>(row.num_logits);
    if (active.has_choices()) part.choices.push_back(static_cast<int>(i));
  }
  plan->parts.push_back(std::move(part));
}

// Beside more than one other sequence, arithmetic bounds a step: each guess costs as much as a
// token.
bool Engine::MayGuess(const ActiveRequest& active) const {
  constexpr int kMostSequences = 2;
  if (!options_.speculation || !limits_.exact_steps || active.samples_on_device) return false;
  if (NumPlaces(active.request.sampling) > 1) return false;
  int places = 0;
  for (const ActiveRequest& other : active_) places += other.num_places();
  return places <= kMostSequences;
}

// As many guesses as there are slots and tokens left for.
void Engine::PlanGuesses(ActiveRequest& active, StepRow* row) const {
  const int64_t own = active.length - active.prefix_tokens;
  const int64_t slots = extents_.SizeOf(active.extents.front()) - own - 1;
  active.Guess(std::min(slots, active.max_tokens - active.length - 2));
  row->tokens = active.guess_tokens;
  row->image_slots = active.guess_image_slots;
  row->num_logits = static_cast<int32_t>(active.guess_tokens.size());
}

void Engine::PlanSampling(ActiveRequest& active, size_t choice, StepRow* row) {
  if (!active.samples_on_device) return;
  ActiveChoice& sampled = active.choices[choice];
  sampled.sampling_params = sampled.search->NextSamplingParams(active.tokens_in_flight);
  row->sampling = &sampled.sampling_params;
}

// A step that cannot start ends its requests and no others; the results of earlier steps are
// committed first.
void Engine::Start(StepPlan plan) {
  plan.began = RequestHandle::Clock::now();
  const Status status = runner_->StartStep(plan.rows);
  ++steps_;
  if (status.ok()) {
    size_t num_tokens = 0;
    for (const StepRow& row : plan.rows) num_tokens += row.tokens.size();
    meters_.step_tokens.Observe(static_cast<double>(num_tokens));
    for (const StepPart& part : plan.parts) NoteStarted(part);
    in_flight_.push_back(std::move(plan));
    return;
  }
  LogError("a step with " + std::to_string(plan.rows.size()) + " rows failed: " + status.message());
  CollectAll();
  if (status.code() == ErrorCode::kOutOfMemory && plan.parts.size() > 1) return StartInHalves(plan);
  for (const StepPart& part : plan.parts) Finish(*part.active, status);
}

// Runs each half of the step by itself. REQUIRES: nothing is in flight.
void Engine::StartInHalves(const StepPlan& plan) {
  StepPlan halves[2];
  size_t row = 0;
  for (size_t i = 0; i < plan.parts.size(); ++i) {
    const StepPart& part = plan.parts[i];
    const auto rows = std::span(plan.rows).subspan(row, part.rows);
    row += part.rows;
    if (part.active->finished()) continue;  // it ended by what was collected since the plan
    StepPlan& half = halves[i < plan.parts.size() / 2 ? 0 : 1];
    half.parts.push_back(part);
    half.rows.insert(half.rows.end(), rows.begin(), rows.end());
  }
  for (StepPlan& half : halves) {
    if (!half.rows.empty()) Start(std::move(half));
    CollectAll();
  }
}

void Engine::NoteStarted(const StepPart& part) {
  ActiveRequest& active = *part.active;
  ++active.steps_in_flight;
  if (part.prompt_tokens > 0) {
    active.prompt_done += part.prompt_tokens;
    active.length = active.prompt_done;
    UnpinImages(active);
  } else {
    ++active.length;
  }
  if (part.num_logits == 0 || !active.samples_on_device) return;
  ++active.tokens_in_flight;
  if (active.sequences.empty()) active.sequences = {{active.extents.front()}};
  for (Sequence& sequence : active.sequences) sequence.last_token = kPlaceholderToken;
}

// Only what is collected is known to be right.
void Engine::NoteComputed(const StepPart& part) {
  ActiveRequest& active = *part.active;
  if (part.prompt_tokens > 0) {
    active.computed += part.prompt_tokens;
  } else if (!active.shares_prompt()) {
    ++active.computed;
  }
}

void Engine::CollectAll() {
  while (!in_flight_.empty()) CollectOldest();
}

void Engine::CollectOldest() {
  const StepPlan step = std::move(in_flight_.front());
  const std::vector<StepPart>& parts = step.parts;
  in_flight_.pop_front();
  const Status status = runner_->FinishStep(&output_);
  const std::chrono::duration<double> took = RequestHandle::Clock::now() - step.began;
  meters_.step_s.Observe(took.count());
  for (const StepPart& part : parts) {
    --part.active->steps_in_flight;
    if (part.num_logits > 0 && part.active->samples_on_device) --part.active->tokens_in_flight;
  }
  if (status.ok()) {
    for (const StepPart& part : parts) NoteComputed(part);
    return Commit(parts, output_);
  }
  LogError("a step of " + std::to_string(parts.size()) + " requests failed: " + status.message());
  for (const StepPart& part : parts) Finish(*part.active, status);
}

}  // namespace idefics
