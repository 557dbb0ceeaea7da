// SPDX-License-Identifier: Apache-2.0
// The chunks of a PNG file, walked with Pillow's rules: what lies before the first IDAT must be
// whole and have right checksums, the rest may be cut off. Internal to predictor/images. Any
// thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "predictor/images/raster.h"

namespace idefics {

struct PngChunks {
  // A PNG stream of only IHDR, PLTE, tRNS, IDAT and IEND: pieces of the file, as long as possible,
  // and small new ones where a cut-off IDAT needs its real length. CRCs need not be right.
  std::vector<Bytes> pieces;
  std::vector<uint8_t> exif;  // from eXIf or ImageMagick's "Raw profile type exif"; may be empty
  std::string xmp;            // from iTXt "XML:com.adobe.xmp"; may be empty

  std::unique_ptr<std::array<uint8_t, 8>> cut_header;  // owns a piece
};

// An error, of any kind, also when the budget is interrupted.
Result<PngChunks> WalkPngChunks(Bytes file, const DecodeBudget& budget);

}  // namespace idefics
