// SPDX-License-Identifier: Apache-2.0
// The extent of the KV arena that a request holds while it runs, and that grows with its answer.
#include <algorithm>
#include <numeric>

#include "common/check.h"
#include "predictor/engine/engine.h"

namespace idefics {
// The extents of a request that begins, or begins again. max_tokens: of one sequence.
std::vector<int64_t> Engine::FirstSizes(const EngineRequest& request, int64_t max_tokens) const {
  if (NumPlaces(request.sampling) > 1) return ExtentSizes(request);
  const auto tokens = static_cast<int64_t>(request.tokens.size());
  return {std::min(max_tokens, tokens + options_.kv_growth)};
}

// What it needs at least, whatever of it is in the arena already.
std::vector<int64_t> Engine::LeastSizes(const EngineRequest& request, int64_t max_tokens) const {
  std::vector<int64_t> sizes = FirstSizes(request, max_tokens);
  const auto tokens = static_cast<int64_t>(request.tokens.size());
  const bool may_share = *options_.prefix_cache && sizes.size() == 1;
  if (may_share && tokens > options_.share_from) sizes.front() -= tokens - 1;
  return sizes;
}

// Whether there are as many slots, wherever they are, beside what stays free for those who run.
bool Engine::HasRoom(const std::vector<int64_t>& sizes) const {
  const int64_t slots = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  // What is cached makes room for whoever needs it.
  const int64_t available = limits_.kv_tokens - (extents_.used() - cached_.tokens());
  return slots + GrowthReserve() <= available;
}

// Allocates KV slots, with those of its first tokens that are in the arena already, and pins the
// first image that a further token sees: all of it or nothing.
bool Engine::Reserve(ActiveRequest& active) {
  if (!HasRoom(LeastSizes(active.request, active.max_tokens))) return false;
  const Reuse reuse = FindReuse(active);
  if (HasRoomToShare(active, reuse) && ReserveWith(active, reuse, /*shares=*/true)) return true;
  if (!HasRoom(FirstSizes(active.request, active.max_tokens))) return false;
  return (reuse.tokens > 0 && ReserveWith(active, reuse, /*shares=*/false)) ||
         ReserveWith(active, {}, /*shares=*/false);
}

bool Engine::ReserveWith(ActiveRequest& active, Reuse reuse, bool shares) {
  active.prompt_done = active.length = active.computed = reuse.tokens;
  bool reserved = shares ? AllocateShared(active, reuse) : AllocateExtents(active, &reuse);
  if (reserved) FindLeader(active);
  // Who waits for another one's tokens must not hold what that waits for.
  if (reserved && active.leader == nullptr && !PinImages(active)) {
    if (reuse.adopted) KeepPrefix(active);  // it came from there
    reserved = false;
  }
  if (reserved && !reuse.adopted) reserved = CopyReused(reuse, active.prefix_tokens, active).ok();
  if (reserved) {
    prefix_tokens_ += reuse.tokens;
    return true;
  }
  Release(active);
  active.prompt_done = active.length = active.computed = 0;
  return false;
}

// The caller releases what was allocated where it was not all. The extent of a cached prefix itself
// goes on where the request begins with all of it, or where there is no other room.
bool Engine::AllocateExtents(ActiveRequest& active, Reuse* reuse) {
  const PrefixCache::Entry* const entry = reuse->entry;
  const bool may_adopt = entry != nullptr && entry->readers == 0 && active.grows();
  for (const int64_t size : FirstSizes(active.request, active.max_tokens)) {
    bool evicted = true;
    for (bool allocated = false; !allocated;) {
      const bool adopts = may_adopt && (entry->seen.size() == reuse->tokens || !evicted);
      if (adopts && extents_.Resize(entry->start, size)) {
        active.extents.push_back(entry->start);
        cached_.HandOver(entry);
        reuse->adopted = true;
        return true;
      }
      if (!evicted) return false;
      const auto start = extents_.Allocate(size);
      if (start) active.extents.push_back(*start);
      allocated = start.has_value();
      if (!allocated) evicted = cached_.EvictOne(entry);
    }
  }
  return true;
}

// What stays free beside a request that begins, so that those who run can grow for a while before
// one of them is preempted.
int64_t Engine::GrowthReserve() const {
  int64_t slots = 0;
  for (const ActiveRequest& active : active_) {
    if (!active.grows() || active.extents.empty()) continue;
    const int64_t most = active.max_tokens - active.prefix_tokens;
    slots += std::min<int64_t>(options_.kv_growth, most - extents_.SizeOf(active.extents.front()));
  }
  return std::min(slots, limits_.kv_tokens / 16);
}

void Engine::Release(ActiveRequest& active) {
  for (const int64_t extent : active.extents) {
    if (extent != kFreedExtent) extents_.Free(extent);
  }
  active.extents.clear();
  ReturnPrefix(active);
  active.leader = nullptr;
  for (ImageUse& image : active.images) {
    if (image.slot >= 0) images_.Unpin(image.slot);
    image.slot = -1;
  }
}

// Makes every sequence's extent long enough for its next step. Where there is no room, cached
// prefixes make some; then the youngest requests, after what they have under way is seen.
void Engine::MakeRoom() {
  for (ActiveRequest& active : active_) {
    while (NeedsRoom(active) && !Grow(active)) {
      if (cached_.EvictOne(nullptr)) continue;
      if (in_flight_.empty()) {
        PreemptYoungest();
      } else {
        CollectAll();
      }
    }
  }
}

bool Engine::NeedsRoom(const ActiveRequest& active) const {
  if (active.finished() || active.sequences.empty() || !active.grows()) return false;
  // The slot of the token that runs, and the one behind it, where a runner that samples stores the
  // next one.
  const int64_t needed = std::min(active.max_tokens, active.length + 2);
  return extents_.SizeOf(active.extents.front()) < needed - active.prefix_tokens;
}

// Doubles the part of the extent that is not the prompt's, where it is or elsewhere; or makes it as
// long as it can be.
bool Engine::Grow(ActiveRequest& active) {
  const int64_t start = active.extents.front();
  const int64_t size = extents_.SizeOf(start);
  const int64_t most = active.max_tokens - active.prefix_tokens;
  const int64_t prompt = most - active.request.sampling.max_new_tokens;
  const int64_t wanted =
      std::min(most, size + std::max<int64_t>(options_.kv_growth, size - prompt));
  if (extents_.Resize(start, wanted)) return true;
  if (const auto elsewhere = extents_.Allocate(wanted)) {
    Move(active, *elsewhere);
    return true;
  }
  const int64_t room = std::min(wanted, extents_.RoomAt(start));
  return room > size && extents_.Resize(start, room);
}

// The copy comes behind the steps in flight, which write to the old extent, and before whatever its
// next owner runs.
void Engine::Move(ActiveRequest& active, int64_t to) {
  int64_t& start = active.extents.front();
  // The token behind the last one may be sampled already.
  const int64_t tokens = std::min(extents_.SizeOf(start), active.length + 1 - active.prefix_tokens);
  const KvCopy copy{start, to, tokens};
  const Status status = runner_->CopyKv(std::span(&copy, 1));
  extents_.Free(start);
  start = to;
  active.sequences.front().kv_start = to;
  if (!status.ok()) Finish(active, status);
}

// Takes from the youngest request that grows what it holds; it begins again when there is room for
// more than that. REQUIRES: no step in flight; a request grows and has an extent.
void Engine::PreemptYoungest() {
  const auto youngest = std::find_if(
      active_.rbegin(), active_.rend(),
      [](const ActiveRequest& other) { return !other.extents.empty() && other.grows(); });
  IDEFICS_CHECK(youngest != active_.rend());
  KeepPrefix(*youngest);
  Release(*youngest);
  youngest->StartAgain();
  ++preemptions_;
}

}  // namespace idefics
