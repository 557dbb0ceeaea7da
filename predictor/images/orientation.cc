// SPDX-License-Identifier: Apache-2.0
#include "predictor/images/orientation.h"

#include <algorithm>
#include <opencv2/core.hpp>
#include <utility>

namespace idefics {
namespace {

// How an orientation is undone: swap rows and columns first, then mirror.
struct Turn {
  bool transpose;
  bool flip;
  int flip_axis;  // cv::flip: 0 top and bottom, 1 left and right, -1 both
};

constexpr Turn kTurns[] = {
    {false, true, 1},   // 2
    {false, true, -1},  // 3
    {false, true, 0},   // 4
    {true, false, 0},   // 5
    {true, true, 1},    // 6
    {true, true, -1},   // 7
    {true, true, 0},    // 8
};

cv::Mat View(RgbImage* image) {
  return {image->height, image->width, CV_8UC3, image->pixels.data()};
}

}  // namespace

RgbImage ApplyOrientation(RgbImage image, int orientation, const DecodeBudget& budget) {
  if (orientation < 2 || orientation > 8) return image;
  const Turn turn = kTurns[orientation - 2];
  constexpr int kRows = 256;  // transposed between two looks at the budget
  if (turn.transpose) {
    RgbImage turned{image.height, image.width, std::vector<uint8_t>(image.pixels.size())};
    const cv::Mat in = View(&image);
    cv::Mat out = View(&turned);
    for (int y = 0; y < in.rows && !budget.Interrupted(); y += kRows) {
      const cv::Range rows(y, std::min(y + kRows, in.rows));
      cv::Mat columns = out.colRange(rows);
      cv::transpose(in.rowRange(rows), columns);
    }
    image = std::move(turned);
  }
  if (turn.flip && !budget.Interrupted()) {
    cv::Mat view = View(&image);
    cv::flip(view, view, turn.flip_axis);
  }
  return image;
}

}  // namespace idefics
