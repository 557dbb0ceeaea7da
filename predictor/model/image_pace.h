// SPDX-License-Identifier: Apache-2.0
// ImagePace: how much of an image is encoded at once on a CPU, where steps wait meanwhile. An
// encoding consists of units in a fixed order, its layers for example. A part of it takes about as
// long as a decode step, by what both took before, so that a running row waits for at most one
// step's time, or one unit's. No lock.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <vector>

namespace idefics {

class ImagePace {
 public:
  using Duration = std::chrono::steady_clock::duration;

  // units: of an encoding, 1 or more.
  explicit ImagePace(size_t units) : units_(units, Duration(0)) {}

  // What a step of nothing but decode rows took, and a unit of an encoding.
  void NoteStep(Duration took);
  void NoteUnit(size_t unit, Duration took);

  // One behind the last unit of the part that begins with unit `next`. While a time is not known, a
  // part is an eighth of the encoding.
  size_t PartEnd(size_t next) const;

  size_t units() const { return units_.size(); }

 private:
  std::deque<Duration> steps_;   // the last ones
  std::vector<Duration> units_;  // mean of the last ones; 0: not known
};

}  // namespace idefics
