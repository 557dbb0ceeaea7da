// SPDX-License-Identifier: Apache-2.0
// What becomes of a step's results. Nothing of a step is visible to a caller before.
#include <algorithm>
#include <utility>

#include "common/check.h"
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

void Engine::Commit(const std::vector<StepPart>& parts, const StepOutput& output) {
  const int64_t vocab = limits_.vocab_size;
  std::span<const float> logits = output.logits;
  auto sampled = output.sampled.begin();
  for (const StepPart& part : parts) {
    const size_t count = part.num_logits;
    if (count == 0) continue;
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
    } else if (part.prompt_tokens == 0 && count > part.rows) {
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
