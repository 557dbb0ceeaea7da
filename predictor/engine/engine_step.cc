// SPDX-License-Identifier: Apache-2.0
// One step of the engine: plan, run, commit. Nothing is visible to a caller before the commit.
#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "common/log.h"
#include "predictor/engine/engine.h"

namespace idefics {

// All decode rows, then prompt pieces in order of arrival until the token budget is used up. The
// budget is small beside decode rows: it is what an arrival may delay them by.
Engine::StepPlan Engine::Plan() {
  StepPlan plan;
  for (Running& running : running_) {
    if (!running.rows.empty()) PlanDecode(running, &plan);
  }
  int64_t budget = options_.max_step_tokens;
  if (!plan.rows.empty()) {
    budget = options_.max_joining_tokens > 0 ? options_.max_joining_tokens : limits_.joining_tokens;
  }
  for (Running& running : running_) {
    if (running.extents.empty() || !running.rows.empty() || !HasAllImages(running)) continue;
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
  plan->rows.push_back(row);
  plan->requests.push_back(&running);
  plan->rows_of_request.push_back(1);
}

void Engine::PlanDecode(Running& running, StepPlan* plan) {
  for (const Row& sequence : running.rows) {
    StepRow row;
    row.tokens = std::span(&sequence.last_token, 1);
    row.image_entries =
        std::span(&running.token_entries.back(), 1);  // spec 2.7: as the last prompt token
    row.position = static_cast<int32_t>(running.length);
    row.kv_start = sequence.kv_start;
    if (running.shares_prompt()) {
      row.shared_start = running.extents.front();
      row.shared_tokens = static_cast<int32_t>(running.request.tokens.size());
    }
    plan->rows.push_back(row);
  }
  plan->requests.push_back(&running);
  plan->rows_of_request.push_back(static_cast<int>(running.rows.size()));
}

// Out of memory with several requests: the first half, then the second half, each as a step of its
// own. Any other failure ends the requests of this plan and of no other.
void Engine::Execute(const StepPlan& plan) {
  const auto wanted = std::count_if(plan.rows.begin(), plan.rows.end(),
                                    [](const StepRow& row) { return row.wants_logits; });
  logits_.resize(wanted * static_cast<int64_t>(limits_.vocab_size));
  const Status status = runner_->Step(plan.rows, logits_);
  ++steps_;
  if (status.ok()) return Commit(plan, logits_);
  LogError("a step with " + std::to_string(plan.rows.size()) + " rows failed: " + status.message());
  if (status.code() != ErrorCode::kOutOfMemory || plan.requests.size() == 1) {
    for (Running* running : plan.requests) Finish(*running, status);
    return;
  }
  StepPlan halves[2];
  size_t row = 0;
  for (size_t i = 0; i < plan.requests.size(); ++i) {
    StepPlan& half = halves[i < plan.requests.size() / 2 ? 0 : 1];
    half.requests.push_back(plan.requests[i]);
    half.rows_of_request.push_back(plan.rows_of_request[i]);
    for (int r = 0; r < plan.rows_of_request[i]; ++r) half.rows.push_back(plan.rows[row++]);
  }
  for (const StepPlan& half : halves) Execute(half);
}

void Engine::Commit(const StepPlan& plan, std::span<const float> logits) {
  const int64_t vocab = limits_.vocab_size;
  size_t row = 0;
  for (size_t i = 0; i < plan.requests.size(); ++i) {
    Running& running = *plan.requests[i];
    const int rows = plan.rows_of_request[i];
    const bool prompt = running.rows.empty();
    if (prompt) {
      running.prompt_done += static_cast<int64_t>(plan.rows[row].tokens.size());
      running.length = running.prompt_done;
    } else {
      ++running.length;
    }
    if (plan.rows[row].wants_logits) {
      CommitRequest(running, logits.first(rows * vocab));
      logits = logits.subspan(rows * vocab);
    }
    row += rows;
  }
}

void Engine::CommitRequest(Running& running, std::span<const float> logits) {
  if (!std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); })) {
    return Finish(running, Status::Internal("the model computed infinite or undefined logits: its "
                                            "weights are damaged, or its activations overflow "
                                            "(export it with --dtype bf16 or f32)"));
  }
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
