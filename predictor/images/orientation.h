// SPDX-License-Identifier: Apache-2.0
// Turning and mirroring pixels as EXIF orientations 1..8 say. Stateless; any thread.
#pragma once

#include "predictor/images/decode_budget.h"
#include "predictor/images/rgb_image.h"

namespace idefics {

// The upright image (PIL.ImageOps.exif_transpose); orientations other than 2..8 change nothing.
// Unfinished when the budget is interrupted.
RgbImage ApplyOrientation(RgbImage image, int orientation, const DecodeBudget& budget);

}  // namespace idefics
