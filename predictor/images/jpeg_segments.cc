// SPDX-License-Identifier: Apache-2.0
#include "predictor/images/jpeg_segments.h"

namespace idefics {
namespace {

constexpr uint8_t kApp1 = 0xe1;
constexpr uint8_t kApp2 = 0xe2;
constexpr uint8_t kScan = 0xda;
constexpr uint8_t kEnd = 0xd9;

// Markers without a length: TEM, and RST0 to RST7 (ITU-T T.81, table B.1).
bool StandsAlone(uint8_t marker) { return marker == 1 || (marker >= 0xd0 && marker <= 0xd7); }

}  // namespace

std::vector<JpegSegment> FindJpegSegments(Bytes file, const DecodeBudget& budget) {
  std::vector<JpegSegment> segments;
  size_t at = 2;  // behind the start marker
  for (size_t i = 0; i % 1024 != 0 || !budget.Interrupted(); ++i) {
    // Anything up to 0xff, and every 0xff but the last, is skipped, as by libjpeg.
    while (at < file.size() && file[at] != 0xff) ++at;
    while (at < file.size() && file[at] == 0xff) ++at;
    if (at >= file.size()) break;
    const uint8_t marker = file[at++];
    if (marker == kScan || marker == kEnd) break;
    if (marker == 0 || StandsAlone(marker)) continue;
    if (file.size() - at < 2) break;
    const size_t length = ReadU16Be(&file[at]);
    if (length < 2 || length > file.size() - at) break;
    if (marker == kApp1 || marker == kApp2) {
      segments.push_back({marker, file.subspan(at + 2, length - 2)});
    }
    at += length;
  }
  return segments;
}

}  // namespace idefics
