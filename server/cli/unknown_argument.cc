// SPDX-License-Identifier: Apache-2.0
#include "server/cli/unknown_argument.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace idefics {
namespace {

constexpr size_t kMistakes = 2;
constexpr size_t kLeastBeginning = 3;  // that tells a name with another end

// Levenshtein's distance, row by row.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

bool SameBeginning(std::string_view a, std::string_view b) {
  return std::min(a.size(), b.size()) >= kLeastBeginning && (a.starts_with(b) || b.starts_with(a));
}

}  // namespace

std::string NearestName(std::string_view name, const std::vector<std::string>& known) {
  std::string nearest;
  size_t least = std::string::npos;
  for (const std::string& candidate : known) {
    const size_t distance = EditDistance(name, candidate);
    if (distance > kMistakes && !SameBeginning(name, candidate)) continue;
    if (distance < least) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace idefics
