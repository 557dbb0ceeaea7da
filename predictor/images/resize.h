// SPDX-License-Identifier: Apache-2.0
// Pillow 12's bicubic resize (antialiased, a = -0.5), bit for bit. Stateless; any thread.
#pragma once

#include "predictor/images/decode_budget.h"
#include "predictor/images/rgb_image.h"

namespace idefics {

// image: [height, width, 3] -> [new height, new width, 3]. The horizontal pass comes first, except
// for images more than 100 times as high as wide that get lower (PIL/Image.py, resize; Pillow 13
// has another rule). Each pass is rounded to bytes. An image that has the wanted size comes back
// unchanged. Unfinished when the budget is interrupted. REQUIRES: no side is 0.
RgbImage ResizeBicubic(const RgbImage& image, int width, int height,
                       const DecodeBudget* budget = nullptr);

}  // namespace idefics
