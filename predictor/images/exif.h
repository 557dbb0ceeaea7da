// SPDX-License-Identifier: Apache-2.0
// The orientation written in EXIF and XMP metadata, read as Pillow's Image.getexif does. Damaged
// metadata counts as absent: an image is worth more than its label. Stateless; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace idefics {

// First value of a whole-number tag in the first directory of a TIFF-like block that starts with
// "II" or "MM", or 0.
uint32_t FirstDirectoryNumber(std::span<const uint8_t> block, uint32_t tag);

// Value of tag 274 in the first directory of an EXIF block (with or without its "Exif\0\0"), or 0.
int OrientationFromExif(std::span<const uint8_t> block);

// The digit after tiff:Orientation=" or tiff:Orientation> in an XMP packet, or 0.
int OrientationFromXmp(std::string_view packet);

// EXIF wins over XMP; 1 (upright) when neither says anything that is 1..8.
int CombinedOrientation(std::span<const uint8_t> exif, std::string_view xmp);

}  // namespace idefics
