// SPDX-License-Identifier: Apache-2.0
// libFuzzer target of the resize: odd sizes. An image of one colour stays that colour, to within
// the rounding of the weights.
#include <cstdlib>

#include "common/check.h"
#include "predictor/images/resize.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace idefics;
  constexpr int kMaxPixels = 1 << 14;
  if (size < 9) return 0;
  const auto number = [&](size_t at) { return data[at] << 8 | data[at + 1]; };
  const int width = 1 + number(0) % kMaxPixels;
  const int height = 1 + number(2) % (kMaxPixels / width);
  const int out_width = 1 + number(4) % 40;
  const int out_height = 1 + number(6) % 40;
  const uint8_t level = data[8];
  RgbImage image{width, height, {}};
  image.pixels.assign(size_t{3} * static_cast<size_t>(width) * static_cast<size_t>(height), level);
  const RgbImage out = ResizeBicubic(image, out_width, out_height);
  IDEFICS_CHECK_EQ(out.pixels.size(),
                   size_t{3} * static_cast<size_t>(out_width) * static_cast<size_t>(out_height));
  for (const uint8_t value : out.pixels) IDEFICS_CHECK(std::abs(value - level) <= 1);
  return 0;
}
