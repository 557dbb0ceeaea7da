// SPDX-License-Identifier: Apache-2.0
#include "predictor/images/preprocess.h"

#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "common/sha256.h"

namespace idefics {
namespace {

TEST_CASE("normalising rounds as transformers does", "[preprocess]") {
  static_assert(std::endian::native == std::endian::little);
  std::vector<uint8_t> rgb;  // [1, 256, 3]: every level in every colour
  for (int u = 0; u < 256; ++u) rgb.insert(rgb.end(), 3, static_cast<uint8_t>(u));
  std::vector<float> chw(3 * 256);
  NormalizePixels(rgb, {}, chw);
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(chw.data()),
                                       chw.size() * sizeof(float));
  CHECK(Sha256Hex(bytes) == "5d23c0b115c373c73875b37dce36aa6a54af484dd4332d5f9d07d6ebecb20900");
  CHECK(chw[0] == -1.79226255F);
  CHECK(chw[256 + 128] == 0.168897316F);
  CHECK(chw[2 * 256 + 255] == 2.14589691F);
}

TEST_CASE("a written PNG reads back as the same pixels", "[preprocess]") {
  std::vector<uint8_t> rgb;
  for (int i = 0; i < 31 * 17 * 3; ++i) rgb.push_back(static_cast<uint8_t>(i * 37));
  const auto path = std::filesystem::temp_directory_path() / "idefics_write_png_test.png";
  REQUIRE(WritePng(path.string(), rgb, 31, 17).ok());
  std::ifstream file(path, std::ios::binary);
  const std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(file),
                                   std::istreambuf_iterator<char>()};
  std::filesystem::remove(path);
  const auto image = DecodeImage(bytes, ImagePolicy::kAlphaOverWhite, {});
  REQUIRE(image.ok());
  CHECK(image->format == "PNG");
  CHECK(image->rgb.width == 31);
  CHECK(image->rgb.pixels == rgb);

  ProcessorConstants constants;
  constants.image_size = 17;
  const auto seen = PreprocessImage(bytes, ImagePolicy::kUprightAlphaDropped, constants, {});
  REQUIRE(seen.ok());
  CHECK(seen->rgb.size() == 17 * 17 * 3);
  CHECK(seen->sha256 == Sha256Hex(seen->rgb));
  CHECK(seen->width == 31);
}

TEST_CASE("a PNG that cannot be written is a clear error", "[preprocess]") {
  const Status status = WritePng("/nonexistent/folder/x.png", {1, 2, 3}, 1, 1);
  REQUIRE_FALSE(status.ok());
  CHECK(status.message().find("/nonexistent/folder/x.png") != std::string::npos);
}

}  // namespace
}  // namespace idefics
