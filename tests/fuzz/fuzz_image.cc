// SPDX-License-Identifier: Apache-2.0
// libFuzzer target of one image format, IDEFICS_FUZZ_KIND: a file to what the model sees. Small
// limits, so that -malloc_limit_mb and -timeout tell when the price of a file was wrong.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <string_view>
#include <vector>

#include "common/check.h"
#include "predictor/images/preprocess.h"
#include "tests/fuzz/repair.h"

namespace idefics {
namespace {

constexpr std::string_view kKind = IDEFICS_FUZZ_KIND;

ImageLimits SmallLimits() {
  ImageLimits limits;
  limits.max_pixels = 1 << 16;
  limits.max_memory_bytes = 64 << 20;
  limits.max_pixel_passes = 1 << 22;
  return limits;
}

void Check(const Result<ModelImage>& image, size_t num_bytes) {
  if (!image.ok()) {
    IDEFICS_CHECK(!image.status().message().empty());
    return;
  }
  IDEFICS_CHECK_EQ(image->rgb.size(), num_bytes);
  IDEFICS_CHECK(image->width > 0 && image->height > 0);
  IDEFICS_CHECK(int64_t{image->width} * image->height <= SmallLimits().max_pixels);
}

}  // namespace
}  // namespace idefics

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace idefics;
  ProcessorConstants constants;
  constants.image_size = 16;
  // The last byte, which most formats ignore, picks how the file is opened.
  const bool as_url = size > 0 && (data[size - 1] & 1) != 0;
  const ImagePolicy policy =
      as_url ? ImagePolicy::kUprightAlphaDropped : ImagePolicy::kAlphaOverWhite;
  DecodeControl control;
  int times_reserved = 0;
  control.reserve = [&](int64_t) {
    ++times_reserved;
    return Status::Ok();
  };
  const auto image = PreprocessImage({data, size}, policy, constants, SmallLimits(), control);
  Check(image, size_t{3} * 16 * 16);
  IDEFICS_CHECK(times_reserved <= 1 && (times_reserved == 1 || !image.ok()));
  return 0;
}

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  using namespace idefics;
  size = LLVMFuzzerMutate(data, size, max_size);
  RepairMagic(kKind, data, size);
  if (seed % 16 == 0) return size;  // files with broken checksums, too
  if (kKind == "png") RepairPng(data, size);
  if (kKind == "webp") RepairWebp(data, size);
  return size;
}
