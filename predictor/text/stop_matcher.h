// SPDX-License-Identifier: Apache-2.0
// StopMatcher: ends a streamed text before the first stop string. What it lets through does not
// depend on how the text was cut into pieces. Not thread safe; one per sequence.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace idefics {

class StopMatcher {
 public:
  // Empty stop strings are ignored. The stop string that is complete first wins; of several that
  // end at the same byte, the longest. `include`: the text ends after it instead.
  explicit StopMatcher(std::vector<std::string> stops, bool include = false);

  // Returns the text that is safe to show: all but a tail that may be the start of a stop string.
  // Once one is complete: the text up to where it ends, and "" from then on. Where texts and stop
  // strings are UTF-8, so is each returned piece. Linear in the text, times the number of stop
  // strings.
  std::string Push(std::string_view piece);

  // The held-back tail; "" after a match. Call once, at the end.
  std::string Finish();

  bool matched() const { return matched_; }

 private:
  // Knuth-Morris-Pratt, one automaton per stop string.
  struct Pattern {
    std::string text;
    std::vector<size_t> fallback;  // [i]: longest proper border of the first i + 1 bytes
    size_t matched_bytes = 0;      // the longest prefix of `text` that the stream ends with
    bool Advance(char byte);       // true: complete
  };

  std::vector<Pattern> patterns_;
  const bool include_;
  std::string held_;
  bool matched_ = false;
};

}  // namespace idefics
