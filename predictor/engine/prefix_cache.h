// SPDX-License-Identifier: Apache-2.0
// PrefixCache: extents of the KV arena that no request writes to any more, for requests that begin
// with the same tokens and images. Those that nobody reads are freed as soon as the arena is too
// small for a request, the least recently used one first. Engine thread.
#pragma once

#include <cstdint>
#include <list>
#include <string>
#include <vector>

#include "predictor/engine/kv_extents.h"

namespace idefics {

// What the keys and values of a sequence depend on: its tokens, and which image each of them sees.
struct SeenTokens {
  struct ImageRun {
    int64_t begin = 0;   // the tokens from here to the next run see the image
    std::string sha256;  // empty: none
    bool operator==(const ImageRun&) const = default;
  };

  std::vector<int32_t> tokens;
  std::vector<ImageRun> images;

  // The token sees the image of that hash; empty: none.
  void Add(int32_t token, const std::string& sha256);
  // Its first `count` tokens, or all where it has fewer.
  SeenTokens First(int64_t count) const;
  // How many of the first tokens are the same as the other's, and see the same images.
  int64_t CommonWith(const SeenTokens& other) const;
  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
};

class PrefixCache {
 public:
  // The extent at `start` holds the keys and values of all tokens and nothing else.
  struct Entry {
    SeenTokens seen;
    int64_t start = 0;
    int readers = 0;  // requests that run and read it where it is: it stays
  };
  struct Match {
    const Entry* entry = nullptr;  // valid until the cache is changed
    int64_t tokens = 0;            // at the beginning of both
  };

  explicit PrefixCache(KvExtents* extents) : extents_(*extents) {}

  // The entry with most tokens in common, counted to `limit`; it is the most recently used one
  // then. None: no entry has any.
  Match Find(const SeenTokens& seen, int64_t limit);
  // Takes over an extent, whose first slots hold `seen`, and cuts it to them. Of two entries of
  // which one is the beginning of the other, the longer one stays, and one that is read.
  void Insert(SeenTokens seen, int64_t start);
  // Takes over an extent that holds `seen`, for a reader. Valid while it has readers.
  const Entry* Lend(SeenTokens seen, int64_t start);
  void AddReader(const Entry* entry);
  void RemoveReader(const Entry* entry);
  // The entry is gone; its extent belongs to the caller. REQUIRES: nobody reads it.
  void HandOver(const Entry* entry);
  // Frees the least recently used extent that nobody reads, but for that of `kept`. False: there is
  // none.
  bool EvictOne(const Entry* kept);

  int64_t tokens() const { return tokens_; }  // slots in the extents that nobody reads

 private:
  using Entries = std::list<Entry>;
  Entries::iterator PlaceOf(const Entry* entry);
  Entries::iterator Erase(Entries::iterator entry);

  KvExtents& extents_;
  Entries entries_;  // the most recently used one first
  int64_t tokens_ = 0;
};

}  // namespace idefics
