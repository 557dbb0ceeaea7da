// SPDX-License-Identifier: Apache-2.0
// An 8-bit RGB image in memory. A plain value; distinct objects may be used on distinct threads.
#pragma once

#include <cstdint>
#include <vector>

namespace idefics {

struct RgbImage {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> pixels;  // [height, width, 3]
};

}  // namespace idefics
