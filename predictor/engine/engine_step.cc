// SPDX-License-Identifier: Apache-2.0
// Steps of the engine: plan, start, collect, commit. Nothing is visible to a caller before the
// commit.
#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/log.h"
#include "predictor/engine/engine.h"

namespace idefics {
namespace {

Status NotFinite() {
  return Status::Internal(
      "the model computed infinite or undefined logits: its weights are damaged, or its "
      "activations overflow (export it with --dtype bf16 or f32)");
}

}  // namespace

// Starts the next step and collects the one before: the runner has work while the host looks at
// tokens.
void Engine::TakeStep() {
  bool started = false;
  if (in_flight_.empty() || MayStartAhead()) {
    StepPlan plan = Plan();
    started = !plan.rows.empty();
    if (started) Start(std::move(plan));
  }
  const bool full = in_flight_.size() == kMaxStepsInFlight;
  if (full || (!in_flight_.empty() && (!started || !MayStartAhead()))) CollectOldest();
}

// Of requests whose tokens the runner chooses, all is known that the next step needs.
bool Engine::MayStartAhead() const {
  return std::all_of(in_flight_.begin(), in_flight_.end(), [](const auto& parts) {
    return std::all_of(parts.begin(), parts.end(), [](const StepPart& part) {
      return part.running->runner_chooses || !part.wants_tokens;
    });
  });
}

// All decode rows, then prompt pieces in order of arrival until the token budget is used up. The
// budget is small beside decode rows: it is what an arrival may delay them by.
Engine::StepPlan Engine::Plan() {
  StepPlan plan;
  for (Running& running : running_) {
    const size_t coming = running.search->new_tokens().size() + running.tokens_in_flight;
    const bool last_is_coming = running.tokens_in_flight > 0 &&
                                std::cmp_equal(coming, running.request.sampling.max_new_tokens);
    if (!running.rows.empty() && !last_is_coming) PlanDecode(running, &plan);
  }
  int64_t budget = options_.max_step_tokens;
  if (!plan.rows.empty()) {
    budget = options_.max_joining_tokens > 0 ? options_.max_joining_tokens : limits_.joining_tokens;
  }
  for (Running& running : running_) {
    if (running.finished() || !running.rows.empty() || !HasAllImages(running)) continue;
    if (budget > 0) PlanPrompt(running, &budget, &plan);
  }
  return plan;
}

void Engine::PlanPrompt(Running& running, int64_t* budget, StepPlan* plan) {
  const auto prompt = static_cast<int64_t>(running.request.tokens.size());
  const int64_t count = std::min(*budget, prompt - running.prompt_done);
  *budget -= count;
  StepRow row;
  row.tokens = std::span(running.request.tokens).subspan(running.prompt_done, count);
  row.image_entries = std::span(running.token_entries).subspan(running.prompt_done, count);
  row.position = static_cast<int32_t>(running.prompt_done);
  row.kv_start = running.extents.front();
  row.wants_logits = running.prompt_done + count == prompt;
  if (row.wants_logits) PlanChoice(running, &row);
  plan->rows.push_back(row);
  plan->parts.push_back({&running, 1, count, row.wants_logits});
}

void Engine::PlanDecode(Running& running, StepPlan* plan) {
  for (const Row& sequence : running.rows) {
    StepRow row;
    row.tokens = std::span(&sequence.last_token, 1);
    // It sees what the last prompt token saw: docs/model.md#which-image-a-token-sees.
    row.image_entries = std::span(&running.token_entries.back(), 1);
    row.position = static_cast<int32_t>(running.length);
    row.kv_start = sequence.kv_start;
    if (running.shares_prompt()) {
      row.shared_start = running.extents.front();
      row.shared_tokens = static_cast<int32_t>(running.request.tokens.size());
    }
    PlanChoice(running, &row);
    plan->rows.push_back(row);
  }
  plan->parts.push_back({&running, running.rows.size(), 0, true});
}

void Engine::PlanChoice(Running& running, StepRow* row) {
  if (!running.runner_chooses) return;
  running.choice = running.search->NextChoice(running.tokens_in_flight);
  row->choice = &running.choice;
}

// A failed step changes nothing but the lives of its requests, and of no others; what they had
// before comes first.
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
  for (const StepPart& part : plan.parts) Finish(*part.running, status);
}

// Each half as a step of its own. REQUIRES: nothing is in flight.
void Engine::StartInHalves(const StepPlan& plan) {
  StepPlan halves[2];
  size_t row = 0;
  for (size_t i = 0; i < plan.parts.size(); ++i) {
    const StepPart& part = plan.parts[i];
    const auto rows = std::span(plan.rows).subspan(row, part.rows);
    row += part.rows;
    if (part.running->finished()) continue;  // by what was collected since the plan
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
  Running& running = *part.running;
  ++running.steps_in_flight;
  if (part.prompt_tokens > 0) {
    running.prompt_done += part.prompt_tokens;
    running.length = running.prompt_done;
  } else {
    ++running.length;
  }
  if (!part.wants_tokens || !running.runner_chooses) return;
  ++running.tokens_in_flight;
  if (running.rows.empty()) running.rows = {{running.extents.front(), kTokenOfRunner}};
}

void Engine::CollectAll() {
  while (!in_flight_.empty()) CollectOldest();
}

void Engine::CollectOldest() {
  const std::vector<StepPart> parts = std::move(in_flight_.front());
  in_flight_.pop_front();
  const Status status = runner_->FinishStep(&output_);
  for (const StepPart& part : parts) {
    --part.running->steps_in_flight;
    if (part.wants_tokens && part.running->runner_chooses) --part.running->tokens_in_flight;
  }
  if (status.ok()) return Commit(parts, output_);
  LogError("a step of " + std::to_string(parts.size()) + " requests failed: " + status.message());
  for (const StepPart& part : parts) Finish(*part.running, status);
}

void Engine::Commit(const std::vector<StepPart>& parts, const StepOutput& output) {
  const int64_t vocab = limits_.vocab_size;
  std::span<const float> logits = output.logits;
  auto chosen = output.chosen.begin();
  for (const StepPart& part : parts) {
    if (!part.wants_tokens) continue;
    const auto rows = static_cast<ptrdiff_t>(part.rows);
    const int32_t token = *chosen;
    chosen += rows;
    if (part.running->runner_chooses) {
      CommitToken(*part.running, token);
    } else {
      CommitLogits(*part.running, logits.first(rows * vocab));
      logits = logits.subspan(rows * vocab);
    }
  }
}

// Nothing where the request has ended since the step was started: by the token before, or canceled.
void Engine::CommitToken(Running& running, int32_t token) {
  if (running.finished()) return;
  if (token == kNotFinite) return Finish(running, NotFinite());
  IDEFICS_CHECK_GE(token, 0);
  running.search->Accept(token);
  if (running.search->finished()) return Finish(running, Status::Ok());
  Report(running, /*finished=*/false, Status::Ok());
}

void Engine::CommitLogits(Running& running, std::span<const float> logits) {
  if (running.finished()) return;
  if (!AllFinite(logits)) return Finish(running, NotFinite());
  const SearchStep step = running.search->Advance(logits, limits_.vocab_size);
  if (running.search->finished()) return Finish(running, Status::Ok());
  if (const Status status = MoveRows(running, step); !status.ok()) return Finish(running, status);
  Report(running, /*finished=*/false, Status::Ok());
}

// Gives every new row an extent for its own tokens. The first child of a parent takes the parent's
// over; a further child gets a copy in an extent that no row continues. The prompt is not copied:
// all beams read it where it lies.
Status Engine::MoveRows(Running& running, const SearchStep& step) {
  std::vector<int64_t> unused(running.extents.begin() + (running.shares_prompt() ? 1 : 0),
                              running.extents.end());
  for (const Row& row : running.rows) {
    const auto index = static_cast<int32_t>(&row - running.rows.data());
    const bool continued =
        std::find(step.parents.begin(), step.parents.end(), index) != step.parents.end();
    if (continued) std::erase(unused, row.kv_start);
  }
  const int64_t own_tokens = running.length - static_cast<int64_t>(running.request.tokens.size());
  std::vector<bool> taken(running.rows.size(), false);
  std::vector<Row> rows;
  std::vector<KvCopy> copies;
  for (size_t i = 0; i < step.parents.size(); ++i) {
    const int32_t parent = step.parents[i];
    if (!running.rows.empty() && !taken[parent]) {
      taken[parent] = true;
      rows.push_back({running.rows[parent].kv_start, step.tokens[i]});
      continue;
    }
    IDEFICS_CHECK(!unused.empty());
    rows.push_back({unused.back(), step.tokens[i]});
    unused.pop_back();
    if (own_tokens > 0) {
      copies.push_back({running.rows[parent].kv_start, rows.back().kv_start, own_tokens});
    }
  }
  running.rows = std::move(rows);
  return copies.empty() ? Status::Ok() : runner_->CopyKv(copies);
}

}  // namespace idefics
