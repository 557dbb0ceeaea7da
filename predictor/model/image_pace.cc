// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/image_pace.h"

#include <algorithm>

#include "common/check.h"

namespace idefics {
namespace {

constexpr size_t kSteps = 4;  // of which the shortest counts: a step that was held up does not
constexpr int kMeanOf = 4;    // a unit's time is a quarter new
constexpr size_t kPartsUnknown = 8;  // of an encoding, while times are not known

}  // namespace

void ImagePace::NoteStep(Duration took) {
  steps_.push_back(took);
  if (steps_.size() > kSteps) steps_.pop_front();
}

void ImagePace::NoteUnit(size_t unit, Duration took) {
  Duration& mean = units_.at(unit);
  mean = mean == Duration(0) ? took : mean + (took - mean) / kMeanOf;
}

size_t ImagePace::PartEnd(size_t next) const {
  IDEFICS_CHECK_LT(next, units_.size());
  const bool known =
      !steps_.empty() && std::find(units_.begin(), units_.end(), Duration(0)) == units_.end();
  if (!known)
    return std::min(units_.size(), next + std::max<size_t>(1, units_.size() / kPartsUnknown));
  Duration left = *std::min_element(steps_.begin(), steps_.end());
  size_t end = next;
  do {
    left -= units_[end++];
  } while (end < units_.size() && units_[end] <= left);
  return end;
}

}  // namespace idefics
