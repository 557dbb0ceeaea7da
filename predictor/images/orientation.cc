// SPDX-License-Identifier: Apache-2.0
#include "predictor/images/orientation.h"

#include <algorithm>
#include <array>
#include <utility>

namespace idefics {
namespace {

using Pixel = std::array<uint8_t, 3>;  // RGB
static_assert(sizeof(Pixel) == 3);

// How an orientation is undone: exchange rows and columns first, then mirror.
struct Turn {
  bool transpose;
  bool mirror;       // left and right
  bool upside_down;  // top and bottom
};

constexpr Turn kTurns[] = {
    {false, true, false},  // 2
    {false, true, true},   // 3
    {false, false, true},  // 4
    {true, false, false},  // 5
    {true, true, false},   // 6
    {true, true, true},    // 7
    {true, false, true},   // 8
};

Pixel* Row(RgbImage* image, int y) {
  return reinterpret_cast<Pixel*>(image->pixels.data()) + static_cast<size_t>(y) * image->width;
}

RgbImage Transposed(RgbImage image, const DecodeBudget& budget) {
  constexpr int kTile = 32;  // of both images, tiles of such sides stay in the first cache
  RgbImage turned{image.height, image.width, std::vector<uint8_t>(image.pixels.size())};
  for (int top = 0; top < image.height && !budget.Interrupted(); top += kTile) {
    const int bottom = std::min(top + kTile, image.height);
    for (int left = 0; left < image.width; left += kTile) {
      const int right = std::min(left + kTile, image.width);
      for (int x = left; x < right; ++x) {
        for (int y = top; y < bottom; ++y) Row(&turned, x)[y] = Row(&image, y)[x];
      }
    }
  }
  return turned;
}

void TurnUpsideDown(RgbImage* image) {
  for (int y = 0; y < image->height / 2; ++y) {
    Pixel* const above = Row(image, y);
    std::swap_ranges(above, above + image->width, Row(image, image->height - 1 - y));
  }
}

void Mirror(RgbImage* image) {
  for (int y = 0; y < image->height; ++y) std::reverse(Row(image, y), Row(image, y) + image->width);
}

}  // namespace

RgbImage ApplyOrientation(RgbImage image, int orientation, const DecodeBudget& budget) {
  if (orientation < 2 || orientation > 8) return image;
  const Turn turn = kTurns[orientation - 2];
  if (turn.transpose) image = Transposed(std::move(image), budget);
  if (turn.upside_down && !budget.Interrupted()) TurnUpsideDown(&image);
  if (turn.mirror && !budget.Interrupted()) Mirror(&image);
  return image;
}

}  // namespace idefics
