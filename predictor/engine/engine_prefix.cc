// SPDX-License-Identifier: Apache-2.0
// Beginnings that are in the arena already, or that an older request is about to compute.
#include <algorithm>

#include "predictor/engine/engine.h"

namespace idefics {
namespace {

// A common beginning shorter than this is computed again.
constexpr int64_t kLeastReused = 8;

}  // namespace

// The longest beginning of the prompt in the arena, but for the last token, which runs so that
// there are logits.
Engine::Reuse Engine::FindReuse(const ActiveRequest& active) {
  if (!*options_.prefix_cache || active.scores_prompt()) return {};
  const int64_t limit = active.seen.size() - 1;
  const PrefixCache::Match match = cached_.Find(active.seen, limit);
  Reuse reuse{match.tokens, match.entry == nullptr ? 0 : match.entry->start, match.entry};
  for (ActiveRequest& other : active_) {
    const int64_t most = std::min(limit, other.computed);
    if (other.extents.empty() || most <= reuse.tokens) continue;
    other.LearnTokens();
    const int64_t common = std::min(most, other.seen.CommonWith(active.seen));
    if (common > reuse.tokens) reuse = {common, other.extents.front(), nullptr};
  }
  return reuse.tokens < kLeastReused ? Reuse{} : reuse;
}

// What the request computed stays in the arena until somebody needs the room.
void Engine::KeepPrefix(ActiveRequest& active) {
  if (!*options_.prefix_cache || active.extents.empty()) return;
  if (active.computed < kLeastReused) return;
  active.LearnTokens();
  cached_.Insert(active.seen.First(active.computed), active.extents.front());
  active.extents.front() = kFreedExtent;
}

// The older request that will have computed most of the same beginning, where that is more than the
// request has.
void Engine::FindLeader(ActiveRequest& active) {
  if (!*options_.prefix_cache || active.scores_prompt()) return;
  const int64_t limit = active.seen.size() - 1;
  int64_t most = active.prompt_done + kLeastReused - 1;
  for (ActiveRequest& other : active_) {
    if (&other == &active) return;
    const int64_t coming = std::min(limit, other.prefill_tokens());
    if (other.finished() || other.extents.empty() || coming <= most) continue;
    const int64_t common = std::min(coming, other.seen.CommonWith(active.seen));
    if (common <= most) continue;
    most = common;
    active.leader = &other;
    active.leader_tokens = common;
  }
}

// Whoever waits for a leader takes what that has computed once it is all there, or once no more of
// it comes.
void Engine::FollowLeaders() {
  for (ActiveRequest& active : active_) {
    if (active.leader == nullptr) continue;
    const ActiveRequest& leader = *active.leader;
    const bool is_gone = leader.finished() || leader.extents.empty();
    if (!is_gone && leader.computed < active.leader_tokens) continue;
    active.leader = nullptr;
    TakeFound(active);
  }
}

// REQUIRES: the request has an extent, and nothing of it has run.
void Engine::TakeFound(ActiveRequest& active) {
  const Reuse reuse = FindReuse(active);
  const int64_t begin = active.prompt_done;
  if (reuse.tokens <= begin) return;
  const KvCopy copy{reuse.from + begin, active.extents.front() + begin, reuse.tokens - begin};
  if (const Status status = runner_->CopyKv(std::span(&copy, 1)); !status.ok()) {
    return Finish(active, status);
  }
  prefix_tokens_ += copy.tokens;
  active.prompt_done = active.length = active.computed = reuse.tokens;
  active.handle->set_cached_tokens(reuse.tokens);
}

}  // namespace idefics
