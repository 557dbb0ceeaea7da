// SPDX-License-Identifier: Apache-2.0
// Goldens: sha256 of bytes that Pillow 12 made (docs/model.md#resize); see also test_pixels.py.
#include "predictor/images/resize.h"

#include <catch2/catch_test_macros.hpp>
#include <string>

#include "common/sha256.h"

namespace idefics {
namespace {

RgbImage Pattern(int height, int width) {
  RgbImage image{width, height, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c) {
        const int64_t value = 7 * x + 13 * y + 29 * c + 5 * ((int64_t{x} * y) % 31);
        image.pixels.push_back(static_cast<uint8_t>(value % 256));
      }
    }
  }
  return image;
}

std::string ShortHash(const RgbImage& image) { return Sha256Hex(image.pixels).substr(0, 16); }

TEST_CASE("resizing gives Pillow's bytes", "[resize]") {
  struct Golden {
    int height, width;
    const char* source;
    const char* resized;
  };
  const Golden goldens[] = {
      {480, 640, "91457d2871fcce03", "0491ca827c9946f7"},
      {333, 500, "a657511a3a2dfa05", "1ef1d7d9b0d24370"},
      {224, 224, "dff7735b72f23c66", "dff7735b72f23c66"},
      {30, 400, "a1d354347f23681e", "1cd7675fc0933516"},
      {100, 80, "86312a3f341d189b", "18dfeb2592898c83"},
      {1, 1, "38eea14b03c59c6e", "c87142bd69f6d698"},
      {7, 2000, "617536f65df24da1", "3dfa7a49bac5455f"},
      {1080, 1920, "821379d5df2764e6", "d4bb956d75a7ca2b"},
  };
  for (const Golden& golden : goldens) {
    CAPTURE(golden.height, golden.width);
    const RgbImage source = Pattern(golden.height, golden.width);
    CHECK(ShortHash(source) == golden.source);
    const RgbImage resized = ResizeBicubic(source, 224, 224);
    CHECK(resized.width == 224);
    CHECK(resized.height == 224);
    CHECK(ShortHash(resized) == golden.resized);
  }
}

TEST_CASE("a picture over 100 times as high as wide is made lower first", "[resize]") {
  const RgbImage tall = Pattern(3000, 7);
  const RgbImage low = ResizeBicubic(tall, 7, 224);
  CHECK(ResizeBicubic(tall, 224, 224).pixels == ResizeBicubic(low, 224, 224).pixels);
  const RgbImage at_limit = Pattern(700, 7);
  const RgbImage wide = ResizeBicubic(at_limit, 224, 700);
  CHECK(ResizeBicubic(at_limit, 224, 224).pixels == ResizeBicubic(wide, 224, 224).pixels);
}

TEST_CASE("a picture of one colour keeps it at every size", "[resize]") {
  for (const int side : {1, 2, 3, 8, 9, 223, 225, 1000}) {
    CAPTURE(side);
    RgbImage image{side, 1001 - side, {}};
    for (int i = 0; i < side * (1001 - side); ++i)
      image.pixels.insert(image.pixels.end(), {3, 128, 255});
    const RgbImage resized = ResizeBicubic(image, 50, 30);
    REQUIRE(resized.pixels.size() == 50 * 30 * 3);
    for (size_t i = 0; i < resized.pixels.size(); i += 3) {
      REQUIRE(resized.pixels[i] == 3);
      REQUIRE(resized.pixels[i + 1] == 128);
      REQUIRE(resized.pixels[i + 2] == 255);
    }
  }
}

}  // namespace
}  // namespace idefics
