// SPDX-License-Identifier: Apache-2.0
// The application segments of a JPEG, where EXIF, XMP and the index of a Multi-Picture file lie.
// libjpeg could keep them, but walks its list from the start for every one more: two megabytes of
// empty segments take it minutes. Internal to predictor/images. Stateless; any thread.
#pragma once

#include <vector>

#include "predictor/images/raster.h"

namespace idefics {

struct JpegSegment {
  uint8_t marker = 0;  // 0xe1: APP1, 0xe2: APP2
  Bytes data;          // in the file, without the length
};

// APP1 and APP2 before the first scan; what libjpeg will make of the rest is its affair. Incomplete
// when the budget is interrupted.
std::vector<JpegSegment> FindJpegSegments(Bytes file, const DecodeBudget& budget);

}  // namespace idefics
