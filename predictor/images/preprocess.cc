// SPDX-License-Identifier: Apache-2.0
#include "predictor/images/preprocess.h"

#include <png.h>

#include <cstddef>
#include <new>
#include <utility>

#include "common/check.h"
#include "common/sha256.h"
#include "predictor/images/decode_budget.h"
#include "predictor/images/resize.h"

namespace idefics {

Result<ModelImage> PreprocessImage(std::span<const uint8_t> bytes, ImagePolicy policy,
                                   const ProcessorConstants& constants, const ImageLimits& limits,
                                   const DecodeControl& control) {
  IDEFICS_CHECK(constants.image_size > 0);
  const DecodeBudget budget(limits, control);
  ASSIGN_OR_RETURN(const DecodedImage decoded, DecodeWithin(bytes, policy, budget));
  ModelImage image;
  image.width = decoded.rgb.width;
  image.height = decoded.rgb.height;
  image.format = decoded.format;
  try {
    image.rgb =
        ResizeBicubic(decoded.rgb, constants.image_size, constants.image_size, &budget).pixels;
  } catch (const std::bad_alloc&) {
    return Status::TooLarge("there is no memory to resize the image: send a smaller one");
  }
  RETURN_IF_ERROR(budget.Check());
  image.sha256 = Sha256Hex(image.rgb);
  return image;
}

void NormalizePixels(std::span<const uint8_t> rgb, const ProcessorConstants& constants,
                     std::span<float> chw) {
  IDEFICS_CHECK_EQ(rgb.size(), chw.size());
  const size_t plane = rgb.size() / 3;
  for (size_t c = 0; c < 3; ++c) {
    float levels[256];
    for (int u = 0; u < 256; ++u) {
      const float scaled = static_cast<float>(u * (1.0 / 255.0));
      levels[u] = (scaled - constants.mean[c]) / constants.std[c];
    }
    float* out = chw.data() + c * plane;
    for (size_t i = 0; i < plane; ++i) out[i] = levels[rgb[3 * i + c]];
  }
}

Status WritePng(const std::string& path, const std::vector<uint8_t>& rgb, int width, int height) {
  IDEFICS_CHECK_EQ(rgb.size(), static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(width);
  image.height = static_cast<png_uint_32>(height);
  image.format = PNG_FORMAT_RGB;
  if (png_image_write_to_file(&image, path.c_str(), 0, rgb.data(), 0, nullptr) != 0) {
    return Status::Ok();
  }
  return Status::InvalidInput("the image cannot be written to '" + path + "' (" + image.message +
                              "): give a folder that can be written");
}

}  // namespace idefics
