// SPDX-License-Identifier: Apache-2.0
#include "predictor/engine/ngram_drafts.h"

#include <algorithm>
#include <cmath>

namespace idefics {
namespace {

// What one more token costs a step on a CPU, as a part of a step of one token
// (docs/performance.md#on-a-cpu).
constexpr double kCost = 0.2;
constexpr double kMemory = 0.8;  // of the chance, from one guess to the next
constexpr int kPause = 32;       // steps after which a guess is tried again

}  // namespace

void NgramDrafts::Add(std::span<const int32_t> tokens) {
  for (const int32_t token : tokens) {
    if (tokens_.size() >= kGram) after_[LastGram()] = tokens_.size();
    tokens_.push_back(token);
  }
}

// Two grams of one hash are taken for the same: the guess is then wrong, which only costs.
uint64_t NgramDrafts::LastGram() const {
  uint64_t hash = 0;
  for (size_t i = tokens_.size() - kGram; i < tokens_.size(); ++i) {
    hash = (hash ^ static_cast<uint32_t>(tokens_[i])) * 0x9E3779B97F4A7C15;
    hash ^= hash >> 29;
  }
  return hash;
}

std::vector<int32_t> NgramDrafts::Guess(int64_t most) {
  if (tokens_.size() < kGram || most < 1) return {};
  const auto found = after_.find(LastGram());
  if (found == after_.end()) return {};
  const size_t begin = found->second;
  const size_t count = std::min<size_t>(
      {tokens_.size() - begin, static_cast<size_t>(most), static_cast<size_t>(NumWorthwhile())});
  const auto first = tokens_.begin() + static_cast<ptrdiff_t>(begin);
  return {first, first + static_cast<ptrdiff_t>(count)};
}

// As many as are more likely right, with all before them, than they cost.
int NgramDrafts::NumWorthwhile() {
  if (chance_ >= kCost) {
    int count = 1;
    while (count < kMost && std::pow(chance_, count + 1) >= kCost) ++count;
    return count;
  }
  pause_ = (pause_ + 1) % kPause;
  return pause_ == 0 ? 1 : 0;
}

void NgramDrafts::Learn(size_t guessed, size_t right) {
  for (size_t i = 0; i < right; ++i) chance_ = kMemory * chance_ + (1 - kMemory);
  if (right < guessed) chance_ *= kMemory;
}

}  // namespace idefics
