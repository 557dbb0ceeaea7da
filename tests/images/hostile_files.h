// SPDX-License-Identifier: Apache-2.0
// Small image files that cost far more than they look, and large plain ones, made by hand.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace idefics {

using FileBytes = std::vector<uint8_t>;

// Grey pixels, all of them 0.
FileBytes GreyPng(uint32_t width, uint32_t height);
// Seven passes, RGBA of 16 bits.
FileBytes InterlacedPng(uint32_t width, uint32_t height);
// 8x8 pixels behind `count` compressed texts of a mebibyte each, under the keyword that EXIF has.
FileBytes PngWithTexts(int count);

// One pixel wide; each tile is decoded from the same bytes into `tile_bytes`.
FileBytes TiffWithTiles(uint32_t count, uint32_t tile_bytes);
// 8x8 pixels and `count` unknown tags, which all have the same `tag_bytes` bytes as value.
FileBytes TiffWithTags(uint16_t count, uint32_t tag_bytes);
// 8-bit grey in one uncompressed strip, by a compression's number without meaning it.
FileBytes TiffWithCompression(uint16_t compression);
// 8-bit RGB of three samples, one of which is said to be premultiplied alpha.
FileBytes TiffWithAlphaAmongColors();
// 8-bit grey in one strip of PackBits.
FileBytes LargeTiff(uint32_t width, uint32_t height);

// Progressive grey: one scan for the averages of the blocks, and num_scans that say "nothing here".
FileBytes JpegWithScans(uint16_t width, uint16_t height, int num_scans);
// One scan of blocks without content; orientation 1..8 goes into its EXIF data.
FileBytes PlainJpeg(uint16_t width, uint16_t height, uint8_t orientation);

// 8x8 pixels behind num_segments empty APP1 segments.
FileBytes JpegWithSegments(int num_segments);

FileBytes LargeGif(uint16_t width, uint16_t height);
FileBytes LargePpm(uint32_t width, uint32_t height);
FileBytes RunLengthBmp(uint32_t width, uint32_t height);

}  // namespace idefics
