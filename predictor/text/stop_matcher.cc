// SPDX-License-Identifier: Apache-2.0
#include "predictor/text/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace idefics {

StopMatcher::StopMatcher(std::vector<std::string> stops, bool include) : include_(include) {
  for (std::string& stop : stops) {
    if (stop.empty()) continue;
    Pattern pattern;
    pattern.fallback.resize(stop.size(), 0);
    for (size_t i = 1, border = 0; i < stop.size(); ++i) {
      while (border > 0 && stop[i] != stop[border]) border = pattern.fallback[border - 1];
      if (stop[i] == stop[border]) ++border;
      pattern.fallback[i] = border;
    }
    pattern.text = std::move(stop);
    patterns_.push_back(std::move(pattern));
  }
}

bool StopMatcher::Pattern::Advance(char byte) {
  while (matched_bytes > 0 && byte != text[matched_bytes]) {
    matched_bytes = fallback[matched_bytes - 1];
  }
  if (byte == text[matched_bytes]) ++matched_bytes;
  return matched_bytes == text.size();
}

std::string StopMatcher::Push(std::string_view piece) {
  if (matched_) return "";
  for (const char byte : piece) {
    held_ += byte;
    size_t stop_bytes = 0;
    for (Pattern& pattern : patterns_) {
      if (pattern.Advance(byte)) stop_bytes = std::max(stop_bytes, pattern.text.size());
    }
    if (stop_bytes > 0) {
      matched_ = true;
      if (!include_) held_.resize(held_.size() - stop_bytes);
      return std::exchange(held_, {});
    }
  }
  size_t open_bytes = 0;
  for (const Pattern& pattern : patterns_) open_bytes = std::max(open_bytes, pattern.matched_bytes);
  std::string safe = held_.substr(0, held_.size() - open_bytes);
  held_.erase(0, safe.size());
  return safe;
}

std::string StopMatcher::Finish() { return std::exchange(held_, {}); }

}  // namespace idefics
