// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/image_pace.h"

#include <catch2/catch_test_macros.hpp>

namespace idefics {
namespace {

using std::chrono::milliseconds;

TEST_CASE("while times are not known, a part is an eighth", "[image-pace]") {
  ImagePace pace(34);
  CHECK(pace.PartEnd(0) == 4);
  CHECK(pace.PartEnd(32) == 34);
  pace.NoteStep(milliseconds(1000));
  CHECK(pace.PartEnd(0) == 4);  // of the units nothing is known yet
  CHECK(ImagePace(3).PartEnd(1) == 2);
}

TEST_CASE("a part takes a step's time or less, and at least one unit", "[image-pace]") {
  ImagePace pace(4);
  for (size_t unit = 0; unit < 3; ++unit) pace.NoteUnit(unit, milliseconds(10));
  pace.NoteUnit(3, milliseconds(50));
  pace.NoteStep(milliseconds(25));
  CHECK(pace.PartEnd(0) == 2);
  CHECK(pace.PartEnd(2) == 3);  // the last one would be too much
  CHECK(pace.PartEnd(3) == 4);
  pace.NoteStep(milliseconds(200));  // the shortest counts
  CHECK(pace.PartEnd(0) == 2);
  for (int i = 0; i < 3; ++i) pace.NoteStep(milliseconds(200));
  CHECK(pace.PartEnd(0) == 4);
}

TEST_CASE("a unit's time follows what it takes", "[image-pace]") {
  ImagePace pace(2);
  for (size_t unit = 0; unit < 2; ++unit) pace.NoteUnit(unit, milliseconds(400));  // from a disk
  pace.NoteStep(milliseconds(100));
  CHECK(pace.PartEnd(0) == 1);
  for (int i = 0; i < 12; ++i) {
    for (size_t unit = 0; unit < 2; ++unit) pace.NoteUnit(unit, milliseconds(20));
  }
  CHECK(pace.PartEnd(0) == 2);
}

}  // namespace
}  // namespace idefics
