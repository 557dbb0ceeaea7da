// SPDX-License-Identifier: Apache-2.0
// Beginnings that are in the arena already, or that an older request is about to compute.
#include <algorithm>
#include <utility>

#include "common/check.h"
#include "predictor/engine/engine.h"

namespace idefics {
namespace {

// A common beginning shorter than this is computed again.
constexpr int64_t kLeastReused = 8;

}  // namespace

// The longest beginning of the prompt in the arena, but for the last token, which runs so that
// there are logits.
Reuse Engine::FindReuse(const ActiveRequest& active) {
  if (!*options_.prefix_cache || active.scores_prompt()) return {};
  const int64_t limit = active.seen.size() - 1;
  const PrefixCache::Match match = cached_.Find(active.seen, limit);
  Reuse reuse{match.tokens, match.entry};
  for (ActiveRequest& other : active_) {
    const int64_t most = std::min(limit, other.computed);
    if (other.extents.empty() || most <= reuse.tokens) continue;
    other.LearnTokens();
    const int64_t common = std::min(most, other.seen.CommonWith(active.seen));
    if (common > reuse.tokens) reuse = {common, nullptr, &other};
  }
  return reuse.tokens < kLeastReused ? Reuse{} : reuse;
}

// What the request computed stays in the arena until somebody needs the room.
void Engine::KeepPrefix(ActiveRequest& active) {
  if (!*options_.prefix_cache || active.extents.empty()) return;
  if (active.computed < kLeastReused) return;
  active.LearnTokens();
  SeenTokens seen = active.seen.First(active.computed);
  if (active.prefix == nullptr) {
    cached_.Insert(std::move(seen), active.extents.front());
    active.extents.front() = kFreedExtent;
  } else if (active.computed >= active.prefix_tokens + kLeastReused) {
    const std::optional<int64_t> extent = GatherPrefix(active);
    ReturnPrefix(active);
    if (extent) cached_.Insert(std::move(seen), *extent);
  }
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
  int64_t copied_from = begin;
  if (active.prefix == nullptr && CanShare(active, reuse)) {
    extents_.Free(active.extents.front());
    active.extents.clear();
    IDEFICS_CHECK(AllocateShared(active, reuse));  // it needs less room than it had
    copied_from = active.prefix_tokens;
  }
  if (const Status status = CopyReused(reuse, copied_from, active); !status.ok()) {
    return Finish(active, status);
  }
  prefix_tokens_ += reuse.tokens - begin;
  active.prompt_done = active.length = active.computed = reuse.tokens;
  active.handle->set_cached_tokens(reuse.tokens);
}

// A cached extent of which most is not the common beginning does not stay for its sake, and one
// that can be adopted is. Of a request that runs, a beginning is shared once all of it is computed.
bool Engine::CanShare(const ActiveRequest& active, const Reuse& reuse) const {
  if (!active.grows() || reuse.tokens == 0) return false;
  if (reuse.shared_tokens() < options_.share_from) return false;
  if (reuse.entry != nullptr) {
    const int64_t size = reuse.entry->seen.size();
    return reuse.entry->readers > 0 || (size != reuse.tokens && size <= 2 * reuse.tokens);
  }
  const ActiveRequest& other = *reuse.other;
  if (other.prefix != nullptr || !other.grows()) return other.grows();
  const int64_t coming = std::min(active.seen.size() - 1, other.prefill_tokens());
  const bool is_whole = std::min(coming, other.seen.CommonWith(active.seen)) <= reuse.tokens;
  return is_whole && extents_.SizeOf(other.extents.front()) > reuse.tokens;
}

bool Engine::HasRoomToShare(const ActiveRequest& active, const Reuse& reuse) const {
  if (!CanShare(active, reuse)) return false;
  std::vector<int64_t> sizes = FirstSizes(active.request, active.max_tokens);
  sizes.front() -= reuse.shared_tokens();
  const bool is_idle = reuse.entry != nullptr && reuse.entry->readers == 0;
  if (is_idle) sizes.push_back(reuse.entry->seen.size());
  return HasRoom(sizes);
}

// An extent for what is not shared, and a part in what is. REQUIRES: CanShare.
bool Engine::AllocateShared(ActiveRequest& active, const Reuse& reuse) {
  const int64_t shared = reuse.shared_tokens();
  const int64_t size = FirstSizes(active.request, active.max_tokens).front() - shared;
  std::optional<int64_t> start;
  while (!(start = extents_.Allocate(size))) {
    if (!cached_.EvictOne(reuse.entry)) return false;
  }
  if (reuse.other != nullptr && reuse.other->prefix == nullptr) LendPrefix(*reuse.other, shared);
  active.extents = {*start};
  active.prefix = reuse.entry != nullptr ? reuse.entry : reuse.other->prefix;
  active.prefix_tokens = shared;
  cached_.AddReader(active.prefix);
  return true;
}

// The first tokens of a request that runs become an extent of their own, where they are.
void Engine::LendPrefix(ActiveRequest& active, int64_t tokens) {
  int64_t& start = active.extents.front();
  extents_.Split(start, tokens);
  active.prefix = cached_.Lend(active.seen.First(tokens), start);
  active.prefix_tokens = tokens;
  start += tokens;
  for (Sequence& sequence : active.sequences) sequence.kv_start = start;
}

void Engine::ReturnPrefix(ActiveRequest& active) {
  if (active.prefix != nullptr) cached_.RemoveReader(active.prefix);
  active.prefix = nullptr;
  active.prefix_tokens = 0;
}

// A copy in one piece of what a request that shares has computed, where there is room.
std::optional<int64_t> Engine::GatherPrefix(const ActiveRequest& active) {
  std::optional<int64_t> start;
  while (!(start = extents_.Allocate(active.computed))) {
    if (!cached_.EvictOne(nullptr)) return std::nullopt;
  }
  const KvCopy copies[] = {{active.prefix->start, *start, active.prefix_tokens},
                           {active.extents.front(), *start + active.prefix_tokens,
                            active.computed - active.prefix_tokens}};
  if (runner_->CopyKv(copies).ok()) return start;
  extents_.Free(*start);
  return std::nullopt;
}

// The reused tokens from `begin` on, into the request's own extent.
Status Engine::CopyReused(const Reuse& reuse, int64_t begin, const ActiveRequest& to) {
  std::vector<KvCopy> copies;
  const int64_t lent = reuse.other == nullptr ? 0 : reuse.other->prefix_tokens;
  for (const int64_t end : {std::min(lent, reuse.tokens), reuse.tokens}) {
    if (begin >= end) continue;
    const int64_t from =
        reuse.entry != nullptr ? reuse.entry->start + begin : reuse.other->SlotOf(begin);
    copies.push_back({from, to.SlotOf(begin), end - begin});
    begin = end;
  }
  return copies.empty() ? Status::Ok() : runner_->CopyKv(copies);
}

}  // namespace idefics
