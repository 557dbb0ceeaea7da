// SPDX-License-Identifier: Apache-2.0
#include "predictor/images/decode.h"

#include <catch2/catch_test_macros.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "predictor/images/exif.h"
#include "predictor/images/orientation.h"
#include "predictor/images/preprocess.h"
#include "tests/images/picture_assets.h"

namespace idefics {
namespace {

using Json = nlohmann::json;

Json LoadGoldens() {
  std::ifstream file(IDEFICS_SOURCE_DIR "/tests/goldens/pixels.json");
  return Json::parse(file);
}

void CheckAgainst(const Json& expected, const std::vector<uint8_t>& bytes, ImagePolicy policy) {
  const Result<ModelImage> image = PreprocessImage(bytes, policy, {}, {});
  if (expected.contains("error")) {
    CHECK_FALSE(image.ok());
    return;
  }
  INFO((image.ok() ? "decoded" : image.status().message()));
  REQUIRE(image.ok());
  CHECK(image->width == expected["width"].get<int>());
  CHECK(image->height == expected["height"].get<int>());
  CHECK(image->format == expected["format"].get<std::string>());
  CHECK(image->sha256 == expected["sha256"].get<std::string>());
}

TEST_CASE("every kind of file gives the pixels that Pillow 12 gives", "[decode]") {
  const Json goldens = LoadGoldens();
  REQUIRE(goldens["cases"].size() > 100);
  for (const Json& golden : goldens["cases"]) {
    const std::string name = golden["file"];
    CAPTURE(name);
    const std::vector<uint8_t> bytes = ReadAsset(name);
    CheckAgainst(golden["object"], bytes, ImagePolicy::kAlphaOverWhite);
    CheckAgainst(golden["url"], bytes, ImagePolicy::kUprightAlphaDropped);
  }
}

TEST_CASE("a file over the byte limit is refused before it is read", "[decode]") {
  const std::vector<uint8_t> bytes = ReadAsset("grey.jpg");
  ImageLimits limits;
  limits.max_bytes = static_cast<int64_t>(bytes.size()) - 1;
  const auto image = DecodeImage(bytes, ImagePolicy::kUprightAlphaDropped, limits);
  REQUIRE_FALSE(image.ok());
  CHECK(image.status().code() == ErrorCode::kTooLarge);
  CHECK(image.status().message().find(std::to_string(limits.max_bytes)) != std::string::npos);
}

TEST_CASE("a picture over the pixel limit is refused in every format", "[decode]") {
  ImageLimits limits;
  limits.max_pixels = 19 * 15 - 1;
  for (const char* name : {"grey.jpg", "8bit-type2.png", "RGB.gif", "RGB.webp", "24bit.bmp",
                           "RGB-tiff_lzw.tif", "RGB-444.avif", "RGB.ppm"}) {
    CAPTURE(name);
    const auto image = DecodeImage(ReadAsset(name), ImagePolicy::kUprightAlphaDropped, limits);
    REQUIRE_FALSE(image.ok());
    CHECK(image.status().code() == ErrorCode::kTooLarge);
    CHECK(image.status().message().find("19x15") != std::string::npos);
    CHECK(DecodeImage(ReadAsset(name), ImagePolicy::kUprightAlphaDropped, {}).ok());
  }
}

TEST_CASE("unknown bytes are refused with the list of formats", "[decode]") {
  for (const std::string text : {"", "x", "<html>404</html>", "PK\x03\x04", "\x00\x00\x01\x00"}) {
    const std::vector<uint8_t> bytes(text.begin(), text.end());
    const auto image = DecodeImage(bytes, ImagePolicy::kUprightAlphaDropped, {});
    REQUIRE_FALSE(image.ok());
    CHECK(image.status().code() == ErrorCode::kInvalidInput);
    if (!text.empty()) CHECK(image.status().message().find("JPEG, PNG, GIF") != std::string::npos);
  }
}

TEST_CASE("each orientation puts the marked corner where EXIF says", "[orientation]") {
  // 3 wide, 2 high; the red of the pixels: 1 2 3 / 4 5 6.
  RgbImage image{3, 2, std::vector<uint8_t>(18)};
  for (size_t i = 0; i < 6; ++i) image.pixels[3 * i] = static_cast<uint8_t>(i + 1);
  const std::vector<std::string> upright = {"123456", "321654", "654321", "456123",
                                            "142536", "415263", "635241", "362514"};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    CAPTURE(orientation);
    const RgbImage turned = ApplyOrientation(image, orientation, DecodeBudget({}));
    CHECK(turned.width == (orientation >= 5 ? 2 : 3));
    std::string reds;
    for (size_t i = 0; i < turned.pixels.size(); i += 3)
      reds += static_cast<char>('0' + turned.pixels[i]);
    CHECK(reds == upright[static_cast<size_t>(orientation - 1)]);
  }
}

TEST_CASE("damaged metadata counts as upright", "[exif]") {
  const std::vector<uint8_t> exif = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0,
                                     3,   0,   0, 0,  1, 0, 6, 0, 0, 0, 0, 0,    0};
  CHECK(OrientationFromExif(exif) == 6);
  for (size_t length = 0; length < 22; ++length) {
    CAPTURE(length);
    CHECK(CombinedOrientation(std::span(exif).first(length), "") == 1);
  }
  CHECK(CombinedOrientation(exif, "tiff:Orientation=\"3\"") == 6);
  CHECK(CombinedOrientation({}, "a tiff:Orientation=\"3\" b") == 3);
  CHECK(CombinedOrientation({}, "tiff:Orientation tiff:Orientation>8<") == 8);
  CHECK(CombinedOrientation({}, "tiff:Orientation>9<") == 1);
  CHECK(CombinedOrientation({}, "tiff:Orientation=\"") == 1);
}

}  // namespace
}  // namespace idefics
