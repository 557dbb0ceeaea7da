// SPDX-License-Identifier: Apache-2.0
// NgramDrafts: guesses the next tokens of a sequence: what followed when its last tokens came
// before, in the prompt or in the answer. A step that runs the guesses behind the last token gives
// the logits after each, so that every right guess saves a step; a wrong one costs a part of one.
// It learns how often its guesses are right, makes none where they do not pay, and never spends
// more than its right guesses saved and a few hundredths of the steps. Engine thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace idefics {

class NgramDrafts {
 public:
  static constexpr int kMost = 7;  // guesses at once: with the last token, a step of eight
  // The most that one more token costs a step on a CPU, as a part of a step of one token
  // (docs/performance.md#on-a-cpu).
  static constexpr double kCost = 0.2;
  static constexpr double kSpare = 0.03;  // of each step, for guesses that may be wrong

  // The sequence goes on.
  void Add(std::span<const int32_t> tokens);
  // Up to `most` tokens that may come in the next step, or none. Once for each step.
  std::vector<int32_t> Guess(int64_t most);
  // The first `right` of the last guesses were what came, of `guessed`.
  void Learn(size_t guessed, size_t right);

  size_t size() const { return tokens_.size(); }

 private:
  // What followed the sequences of so many tokens.
  struct Grams {
    size_t length;
    std::unordered_map<uint64_t, size_t> after;  // hash of the gram → index behind the last such
    double chance = 0.4;                         // that the next guess is right
    int pause = 0;                               // calls of Guess that give none
  };

  uint64_t LastGram(size_t length) const;
  int NumWorthwhile(Grams& grams) const;
  std::vector<int32_t> Following(size_t begin, size_t count) const;

  std::vector<int32_t> tokens_;
  std::array<Grams, 2> grams_{{{3, {}}, {2, {}}}};  // the first that came before counts
  size_t used_ = 0;                                 // of grams_, by the last guesses
  double steps_left_ = 0;                           // that guesses may cost
};

}  // namespace idefics
