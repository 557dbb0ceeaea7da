// SPDX-License-Identifier: Apache-2.0
// File bytes -> what the vision model sees, as transformers' IdeficsImageProcessor with Pillow 12:
// decode, RGB, squeeze to a square (no crop, aspect ratio not kept), rescale, normalise.
// Stateless; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"
#include "predictor/images/decode.h"

namespace idefics {

// Defaults: OpenAI CLIP's, which both published models use.
struct ProcessorConstants {
  int image_size = 224;
  std::array<float, 3> mean = {0.48145466F, 0.4578275F, 0.40821073F};
  std::array<float, 3> std = {0.26862954F, 0.26130258F, 0.27577711F};
};

struct ModelImage {
  std::vector<uint8_t> rgb;  // [S, S, 3] right before rescaling, S = image_size
  std::string sha256;        // of rgb, 64 hex digits
  // Of the opened image, after it was turned upright where the policy says so.
  int width = 0;
  int height = 0;
  std::string format;  // Pillow's name
};

// Errors as DecodeImage.
Result<ModelImage> PreprocessImage(std::span<const uint8_t> bytes, ImagePolicy policy,
                                   const ProcessorConstants& constants, const ImageLimits& limits,
                                   const DecodeControl& control = {});

// rgb: [S, S, 3]; chw: [3, S, S] float32, (u8 / 255 - mean) / std with transformers' roundings.
// REQUIRES: both hold 3 * S * S values.
void NormalizePixels(std::span<const uint8_t> rgb, const ProcessorConstants& constants,
                     std::span<float> chw);

// rgb: [height, width, 3]. kInvalidInput when the file cannot be written; overwrites.
Status WritePng(const std::string& path, const std::vector<uint8_t>& rgb, int width, int height);

}  // namespace idefics
