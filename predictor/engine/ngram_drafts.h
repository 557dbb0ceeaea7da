// SPDX-License-Identifier: Apache-2.0
// NgramDrafts: guesses the next tokens of a sequence: what followed when its last three tokens came
// before, in the prompt or in the answer. A step that runs the guesses behind the last token gives
// the logits after each, so that every right guess saves a step; a wrong one costs a part of one.
// It learns how often its guesses are right, and makes none where they do not pay. Engine thread.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace idefics {

class NgramDrafts {
 public:
  static constexpr int kMost = 7;  // guesses at once: with the last token, a step of eight

  // The sequence goes on.
  void Add(std::span<const int32_t> tokens);
  // Up to `most` tokens that may come next, or none.
  std::vector<int32_t> Guess(int64_t most);
  // The first `right` of the last guesses were what came, of `guessed`.
  void Learn(size_t guessed, size_t right);

  size_t size() const { return tokens_.size(); }

 private:
  static constexpr size_t kGram = 3;

  uint64_t LastGram() const;
  int NumWorthwhile();

  std::vector<int32_t> tokens_;
  std::unordered_map<uint64_t, size_t> after_;  // hash of three tokens → index behind the last such
  double chance_ = 0.4;                         // that the next guess is right
  int pause_ = 0;                               // calls of Guess that give none
};

}  // namespace idefics
