// SPDX-License-Identifier: Apache-2.0
#include "predictor/engine/ngram_drafts.h"

#include <algorithm>
#include <cmath>

namespace idefics {
namespace {

constexpr double kMemory = 0.8;  // of the chance, from one guess to the next
constexpr int kPause = 32;       // steps after which a guess is tried again

}  // namespace

void NgramDrafts::Add(std::span<const int32_t> tokens) {
  for (const int32_t token : tokens) {
    for (Grams& grams : grams_) {
      if (tokens_.size() >= grams.length) grams.after[LastGram(grams.length)] = tokens_.size();
    }
    tokens_.push_back(token);
  }
}

// Two grams of one hash are taken for the same: the guess is then wrong, which only costs.
uint64_t NgramDrafts::LastGram(size_t length) const {
  uint64_t hash = 0;
  for (size_t i = tokens_.size() - length; i < tokens_.size(); ++i) {
    hash = (hash ^ static_cast<uint32_t>(tokens_[i])) * 0x9E3779B97F4A7C15;
    hash ^= hash >> 29;
  }
  return hash;
}

std::vector<int32_t> NgramDrafts::Guess(int64_t most) {
  steps_left_ += kSpare;
  const auto affordable = static_cast<int64_t>(steps_left_ / kCost);
  most = std::min(most, affordable);
  if (most < 1) return {};
  for (Grams& grams : grams_) {
    if (tokens_.size() < grams.length) continue;
    const auto found = grams.after.find(LastGram(grams.length));
    if (found == grams.after.end()) continue;
    used_ = static_cast<size_t>(&grams - grams_.data());
    const auto count = std::min<int64_t>(most, NumWorthwhile(grams));
    return Following(found->second, static_cast<size_t>(count));
  }
  return {};
}

// What came from `begin` on, and what these tokens would go on with if they came again and again.
std::vector<int32_t> NgramDrafts::Following(size_t begin, size_t count) const {
  std::vector<int32_t> guesses(count);
  const size_t period = tokens_.size() - begin;
  for (size_t i = 0; i < count; ++i) guesses[i] = tokens_[begin + i % period];
  return guesses;
}

// As many as are more likely right, with all before them, than they cost.
int NgramDrafts::NumWorthwhile(Grams& grams) const {
  if (grams.chance >= kCost) {
    int count = 1;
    while (count < kMost && std::pow(grams.chance, count + 1) >= kCost) ++count;
    return count;
  }
  grams.pause = (grams.pause + 1) % kPause;
  return grams.pause == 0 ? 1 : 0;
}

void NgramDrafts::Learn(size_t guessed, size_t right) {
  steps_left_ += static_cast<double>(right) - kCost * static_cast<double>(guessed);
  double& chance = grams_[used_].chance;
  for (size_t i = 0; i < right; ++i) chance = kMemory * chance + (1 - kMemory);
  if (right < guessed) chance *= kMemory;
}

}  // namespace idefics
