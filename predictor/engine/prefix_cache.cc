// SPDX-License-Identifier: Apache-2.0
#include "predictor/engine/prefix_cache.h"

#include <algorithm>
#include <iterator>

#include "common/check.h"

namespace idefics {

void SeenTokens::Add(int32_t token, const std::string& sha256) {
  if (images.empty() || images.back().sha256 != sha256) images.push_back({size(), sha256});
  tokens.push_back(token);
}

SeenTokens SeenTokens::First(int64_t count) const {
  SeenTokens first = *this;
  if (count >= size()) return first;
  first.tokens.resize(count);
  std::erase_if(first.images, [&](const ImageRun& run) { return run.begin >= count; });
  return first;
}

int64_t SeenTokens::CommonWith(const SeenTokens& other) const {
  const auto differs =
      std::mismatch(tokens.begin(), tokens.end(), other.tokens.begin(), other.tokens.end());
  int64_t common = std::distance(tokens.begin(), differs.first);
  const auto runs =
      std::mismatch(images.begin(), images.end(), other.images.begin(), other.images.end());
  if (runs.first != images.end()) common = std::min(common, runs.first->begin);
  if (runs.second != other.images.end()) common = std::min(common, runs.second->begin);
  return common;
}

PrefixCache::Match PrefixCache::Find(const SeenTokens& seen, int64_t limit) {
  Match best;
  auto found = entries_.end();
  for (auto entry = entries_.begin(); entry != entries_.end() && best.tokens < limit; ++entry) {
    // One that has more in common has the token behind the best one's too.
    if (entry->seen.size() <= best.tokens ||
        entry->seen.tokens[best.tokens] != seen.tokens[best.tokens]) {
      continue;
    }
    const int64_t common = std::min(limit, entry->seen.CommonWith(seen));
    if (common <= best.tokens) continue;
    best = {&*entry, common};
    found = entry;
  }
  if (found != entries_.end()) entries_.splice(entries_.begin(), entries_, found);
  return best;
}

void PrefixCache::Insert(SeenTokens seen, int64_t start) {
  const int64_t size = seen.size();
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const int64_t shorter = std::min(size, entry->seen.size());
    const bool may_begin_alike = entry->seen.tokens[shorter - 1] == seen.tokens[shorter - 1];
    if (!may_begin_alike || entry->seen.CommonWith(seen) < shorter) {
      ++entry;
    } else if (shorter == size) {
      entries_.splice(entries_.begin(), entries_, entry);
      return extents_.Free(start);
    } else if (entry->readers > 0) {
      ++entry;
    } else {
      entry = Erase(entry);
    }
  }
  IDEFICS_CHECK(extents_.Resize(start, size));
  entries_.push_front({std::move(seen), start});
  tokens_ += size;
}

const PrefixCache::Entry* PrefixCache::Lend(SeenTokens seen, int64_t start) {
  IDEFICS_CHECK_EQ(extents_.SizeOf(start), seen.size());
  entries_.push_front({std::move(seen), start, /*readers=*/1});
  return &entries_.front();
}

void PrefixCache::AddReader(const Entry* entry) {
  if (PlaceOf(entry)->readers++ == 0) tokens_ -= entry->seen.size();
}

void PrefixCache::RemoveReader(const Entry* entry) {
  if (--PlaceOf(entry)->readers == 0) tokens_ += entry->seen.size();
}

void PrefixCache::HandOver(const Entry* entry) {
  const auto place = PlaceOf(entry);
  IDEFICS_CHECK_EQ(place->readers, 0);
  tokens_ -= place->seen.size();
  entries_.erase(place);
}

bool PrefixCache::EvictOne(const Entry* kept) {
  for (auto entry = entries_.end(); entry != entries_.begin();) {
    --entry;
    if (&*entry == kept || entry->readers > 0) continue;
    Erase(entry);
    return true;
  }
  return false;
}

PrefixCache::Entries::iterator PrefixCache::PlaceOf(const Entry* entry) {
  const auto place = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& other) { return &other == entry; });
  IDEFICS_CHECK(place != entries_.end());
  return place;
}

PrefixCache::Entries::iterator PrefixCache::Erase(Entries::iterator entry) {
  tokens_ -= entry->seen.size();
  extents_.Free(entry->start);
  return entries_.erase(entry);
}

}  // namespace idefics
