// SPDX-License-Identifier: Apache-2.0
// Steps of the engine: plan, start, collect, commit. Nothing is visible to a caller before the
// commit.
#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/log.h"
#include "predictor/engine/engine.h"
#include "predictor/sampling/logits_processors.h"

namespace idefics {
namespace {

Status NotFinite() {
  return Status::Internal(
      "the model computed infinite or undefined logits: its weights are damaged, or its "
      "activations overflow (export it with --dtype bf16 or f32)");
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
  return std::all_of(in_flight_.begin(), in_flight_.end(), [](const auto& parts) {
    return std::all_of(parts.begin(), parts.end(), [](const StepPart& part) {
      return part.active->samples_on_device || !part.wants_tokens;
    });
  });
}

// All decode rows, then prompt chunks in order of arrival until the token budget is used up. The
// budget beside decode rows is small, because it is the time by which an arrival delays them.
Engine::StepPlan Engine::Plan() {
  StepPlan plan;
  for (ActiveRequest& active : active_) {
    if (active.finished()) continue;
    if (active.sequences.empty() && active.has_choices()) StartChoices(active);
    if (active.sequences.empty()) continue;
    const size_t coming = active.num_new_tokens() + active.tokens_in_flight;
    const bool last_is_coming = active.tokens_in_flight > 0 &&
                                std::cmp_equal(coming, active.request.sampling.max_new_tokens);
    if (!last_is_coming) PlanDecode(active, &plan);
  }
  int64_t budget = options_.max_num_batched_tokens;
  if (!plan.rows.empty()) budget = options_.max_prefill_chunk;
  for (ActiveRequest& active : active_) {
    if (active.finished() || active.preempted() || !active.sequences.empty()) continue;
    PlanPrompt(active, &budget, &plan);
  }
  return plan;
}

// The choices go on from the prompt once it is in the arena and the image that they see is encoded.
void Engine::StartChoices(ActiveRequest& active) const {
  if (!active.prompt_is_done() || ReadyTokens(active) == active.prompt_done) return;
  const int32_t image = active.request.image_index.back();
  active.token_image_slots.back() = image < 0 ? -1 : active.images[image].slot;
  active.StartChoices();
}

// As many of its next tokens as the budget allows and have their images.
void Engine::PlanPrompt(ActiveRequest& active, int64_t* budget, StepPlan* plan) {
  const int64_t ready = std::min(ReadyTokens(active), active.prefill_tokens());
  constexpr int64_t kMostScored = 64;  // a row of logits for each
  const int64_t most = active.scores_prompt() ? std::min(*budget, kMostScored) : *budget;
  const int64_t count = std::min(most, ready - active.prompt_done);
  if (count == 0) return;
  *budget -= count;
  for (int64_t t = active.prompt_done; t < active.prompt_done + count; ++t) {
    const int32_t image = active.request.image_index[t];
    active.token_image_slots[t] = image < 0 ? -1 : active.images[image].slot;
  }
  StepRow row;
  row.tokens = std::span(active.request.tokens).subspan(active.prompt_done, count);
  row.image_slots = std::span(active.token_image_slots).subspan(active.prompt_done, count);
  row.position = static_cast<int32_t>(active.prompt_done);
  row.kv_start = active.extents.front();
  const bool is_last = active.prompt_done + count == active.prefill_tokens();
  row.wants_logits = (is_last && !active.has_choices()) || active.scores_prompt();
  if (active.scores_prompt()) row.num_logits = static_cast<int32_t>(count);
  if (row.wants_logits) PlanSampling(active, 0, &row);
  plan->rows.push_back(row);
  const auto guesses = static_cast<size_t>(row.num_logits - 1);
  plan->parts.push_back({&active, 1, count, row.wants_logits, guesses, {}});
}

void Engine::PlanDecode(ActiveRequest& active, StepPlan* plan) {
  StepPart part{&active, 0, 0, true, 0, {}};
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
    PlanSampling(active, active.has_choices() ? i : 0, &row);
    if (MayGuess(active)) PlanGuesses(active, &part, &row);
    plan->rows.push_back(row);
    ++part.rows;
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
void Engine::PlanGuesses(ActiveRequest& active, StepPart* part, StepRow* row) const {
  const int64_t slots = extents_.SizeOf(active.extents.front()) - active.length - 1;
  active.Guess(std::min(slots, active.max_tokens - active.length - 2));
  part->guesses = active.guess_tokens.size() - 1;
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
  const Status status = runner_->StartStep(plan.rows);
  ++steps_;
  if (status.ok()) {
    for (const StepPart& part : plan.parts) NoteStarted(part);
    in_flight_.push_back(std::move(plan.parts));
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
  if (!part.wants_tokens || !active.samples_on_device) return;
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
  const std::vector<StepPart> parts = std::move(in_flight_.front());
  in_flight_.pop_front();
  const Status status = runner_->FinishStep(&output_);
  for (const StepPart& part : parts) {
    --part.active->steps_in_flight;
    if (part.wants_tokens && part.active->samples_on_device) --part.active->tokens_in_flight;
  }
  if (status.ok()) {
    for (const StepPart& part : parts) NoteComputed(part);
    return Commit(parts, output_);
  }
  LogError("a step of " + std::to_string(parts.size()) + " requests failed: " + status.message());
  for (const StepPart& part : parts) Finish(*part.active, status);
}

void Engine::Commit(const std::vector<StepPart>& parts, const StepOutput& output) {
  const int64_t vocab = limits_.vocab_size;
  std::span<const float> logits = output.logits;
  auto sampled = output.sampled.begin();
  for (const StepPart& part : parts) {
    if (!part.wants_tokens) continue;
    const size_t count = part.rows + part.guesses;
    const std::span<const int32_t> tokens(sampled, count);
    sampled += static_cast<ptrdiff_t>(count);
    if (part.active->samples_on_device) {
      for (size_t r = 0; r < count; ++r) {
        CommitToken(*part.active, part.choices.empty() ? 0 : part.choices[r], tokens[r]);
      }
      continue;
    }
    const auto own = logits.first(count * vocab);
    logits = logits.subspan(count * vocab);
    if (part.active->finished()) continue;
    if (!AllFinite(own)) {
      Finish(*part.active, NotFinite());
    } else if (part.prompt_tokens > 0 && part.active->scores_prompt()) {
      CommitPrompt(*part.active, own);
    } else if (part.guesses > 0) {
      CommitGuesses(*part.active, own);
    } else if (part.choices.empty()) {
      CommitLogits(*part.active, own);
    } else {
      CommitChoiceLogits(*part.active, part.choices, own);
    }
  }
}

// A choice may have ended since the step was started, by its previous token or by cancel: then the
// token is dropped.
void Engine::CommitToken(ActiveRequest& active, int choice, int32_t token) {
  if (active.has_ended(choice)) return;
  if (token == kNotFinite) return Finish(active, NotFinite());
  IDEFICS_CHECK_GE(token, 0);
  active.choices[choice].search->Accept(token);
  CommitChoice(active, choice);
}

// logits: of one row for each of `choices`.
void Engine::CommitChoiceLogits(ActiveRequest& active, const std::vector<int>& choices,
                                std::span<const float> logits) {
  const int64_t vocab = limits_.vocab_size;
  for (size_t r = 0; r < choices.size(); ++r) {
    const int choice = choices[r];
    if (active.has_ended(choice)) continue;
    TokenSearch& search = *active.choices[choice].search;
    (void)search.Advance(logits.subspan(r * vocab, vocab), vocab);
    active.sequences[choice].last_token = search.new_tokens().back();
    CommitChoice(active, choice);
  }
}

// The choice has a new token.
void Engine::CommitChoice(ActiveRequest& active, int choice) {
  if (active.choices[choice].search->finished()) {
    if (EndChoice(active, choice)) return Finish(active, Status::Ok());
    PublishStats();
  }
  Report(active, choice);
}

// Of a request with one choice.
void Engine::CommitLogits(ActiveRequest& active, std::span<const float> logits) {
  TokenSearch& search = *active.choices.front().search;
  const SearchStep step = search.Advance(logits, limits_.vocab_size);
  if (search.finished()) return Finish(active, Status::Ok());
  if (const Status status = ReorderSequences(active, step); !status.ok())
    return Finish(active, status);
  Report(active, 0);
}

// logits: after each of the prompt tokens that follow those which have been scored.
void Engine::CommitPrompt(ActiveRequest& active, std::span<const float> logits) {
  const std::vector<int32_t>& tokens = active.request.tokens;
  const int64_t vocab = limits_.vocab_size;
  const int64_t count = std::ssize(logits) / vocab;
  std::vector<float> scores;
  for (int64_t r = 0; r < count && active.prompt_logprobs.size() + 1 < tokens.size(); ++r) {
    const auto row = logits.subspan(r * vocab, vocab);
    scores.assign(row.begin(), row.end());
    LogSoftmax(scores);
    const int32_t next = tokens[active.prompt_logprobs.size() + 1];
    active.prompt_logprobs.push_back(
        LogprobsOf(next, scores, *active.request.sampling.num_logprobs));
  }
  if (active.computed < active.prefill_tokens()) return;
  active.prompt_scored = true;
  TokenEvent event;
  event.prompt_scored = true;
  event.prompt_logprobs = std::move(active.prompt_logprobs);
  active.handle->Push(std::move(event));
  if (!active.has_choices()) CommitLogits(active, logits.last(vocab));
}

// logits: after the last token and after each guess behind it. Every right guess makes the next
// logits those of its sequence; what was run behind the first wrong one is written over.
void Engine::CommitGuesses(ActiveRequest& active, std::span<const float> logits) {
  const std::vector<int32_t> tokens = active.guess_tokens;
  TokenSearch& search = *active.choices.front().search;
  size_t right = 0;
  for (bool goes_on = true; goes_on;) {
    const auto row = logits.subspan(right * limits_.vocab_size, limits_.vocab_size);
    const SearchStep step = search.Advance(row, limits_.vocab_size);
    goes_on =
        !search.finished() && right + 1 < tokens.size() && step.tokens[0] == tokens[right + 1];
    right += goes_on ? 1 : 0;
  }
  active.length += static_cast<int64_t>(right);
  active.computed += static_cast<int64_t>(right);
  active.drafts.Learn(tokens.size() - 1, right);
  guesses_right_ += static_cast<int64_t>(right);
  if (search.finished()) return Finish(active, Status::Ok());
  active.sequences.front().last_token = search.new_tokens().back();
  Report(active, 0);
}

// Gives every new sequence an extent for its own tokens. The first child of a parent takes over the
// parent's; a further child gets a copy in an extent that no sequence continues. The prompt is not
// copied: all beams read one copy.
Status Engine::ReorderSequences(ActiveRequest& active, const SearchStep& step) {
  std::vector<int64_t> unused(active.extents.begin() + (active.shares_prompt() ? 1 : 0),
                              active.extents.end());
  for (const Sequence& sequence : active.sequences) {
    const auto index = static_cast<int32_t>(&sequence - active.sequences.data());
    const bool continued =
        std::find(step.parents.begin(), step.parents.end(), index) != step.parents.end();
    if (continued) std::erase(unused, sequence.kv_start);
  }
  const int64_t own_tokens = active.length - static_cast<int64_t>(active.request.tokens.size());
  std::vector<bool> taken(active.sequences.size(), false);
  std::vector<Sequence> sequences;
  std::vector<KvCopy> copies;
  for (size_t i = 0; i < step.parents.size(); ++i) {
    const int32_t parent = step.parents[i];
    if (!active.sequences.empty() && !taken[parent]) {
      taken[parent] = true;
      sequences.push_back({active.sequences[parent].kv_start, step.tokens[i]});
      continue;
    }
    IDEFICS_CHECK(!unused.empty());
    sequences.push_back({unused.back(), step.tokens[i]});
    unused.pop_back();
    if (own_tokens > 0) {
      copies.push_back({active.sequences[parent].kv_start, sequences.back().kv_start, own_tokens});
    }
  }
  active.sequences = std::move(sequences);
  return copies.empty() ? Status::Ok() : runner_->CopyKv(copies);
}

}  // namespace idefics
