// SPDX-License-Identifier: Apache-2.0
// libFuzzer target of EXIF and XMP. The first byte says how long the EXIF block is, in steps of
// 1/255.
#include <string_view>

#include "common/check.h"
#include "predictor/images/exif.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace idefics;
  if (size == 0) return 0;
  const size_t exif_bytes = (size - 1) * data[0] / 255;
  const std::span<const uint8_t> exif(data + 1, exif_bytes);
  const std::string_view xmp(reinterpret_cast<const char*>(data) + 1 + exif_bytes,
                             size - 1 - exif_bytes);
  const int from_exif = OrientationFromExif(exif);
  const int from_xmp = OrientationFromXmp(xmp);
  IDEFICS_CHECK(from_exif >= 0 && from_exif <= 9);
  IDEFICS_CHECK(from_xmp >= 0 && from_xmp <= 9);
  const int combined = CombinedOrientation(exif, xmp);
  IDEFICS_CHECK(combined >= 1 && combined <= 8);
  static_cast<void>(FirstDirectoryNumber(exif, 45057));
  return 0;
}
