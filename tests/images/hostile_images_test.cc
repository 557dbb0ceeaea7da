// SPDX-License-Identifier: Apache-2.0
// Damaged files of every kind: a Status or a picture, never a crash (run it under the asan preset).
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <random>
#include <string>

#include "predictor/images/decode.h"
#include "tests/images/hostile_files.h"
#include "tests/images/picture_assets.h"

namespace idefics {
namespace {

ImageLimits SmallLimits() {
  ImageLimits limits;
  limits.max_pixels = 4 << 20;
  return limits;
}

// Reads bytes and checks that the answer is either a whole picture or one sentence.
void Survive(const std::vector<uint8_t>& bytes) {
  const auto image = DecodeImage(bytes, ImagePolicy::kUprightAlphaDropped, SmallLimits());
  if (!image.ok()) {
    REQUIRE_FALSE(image.status().message().empty());
    REQUIRE((image.status().code() == ErrorCode::kInvalidInput ||
             image.status().code() == ErrorCode::kTooLarge));
    return;
  }
  const size_t width = static_cast<size_t>(image->rgb.width);
  REQUIRE(image->rgb.pixels.size() == width * static_cast<size_t>(image->rgb.height) * 3);
}

TEST_CASE("a file cut off anywhere is answered", "[hostile]") {
  for (const std::string& name : AssetNames()) {
    CAPTURE(name);
    const std::vector<uint8_t> bytes = ReadAsset(name);
    const size_t step = bytes.size() / 60 + 1;
    for (size_t length = 0; length < bytes.size(); length += step) {
      CAPTURE(length);
      Survive({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length)});
    }
  }
}

TEST_CASE("a file with random bytes overwritten is answered", "[hostile]") {
  std::mt19937 random(1);
  for (const std::string& name : AssetNames()) {
    CAPTURE(name);
    const std::vector<uint8_t> bytes = ReadAsset(name);
    for (int round = 0; round < 40; ++round) {
      CAPTURE(round);
      std::vector<uint8_t> damaged = bytes;
      // Half of the rounds hit the header, where sizes and offsets lie.
      const size_t reach = round % 2 == 0 ? std::min<size_t>(64, damaged.size()) : damaged.size();
      for (int hit = 0; hit < 1 + round % 4; ++hit) {
        damaged[random() % reach] = static_cast<uint8_t>(random() % 3 == 0 ? 255 : random());
      }
      Survive(damaged);
    }
  }
}

TEST_CASE("a header that claims a huge size is refused", "[hostile]") {
  struct Header {
    const char* asset;
    size_t width_at, height_at;  // offsets of the fields in the file
    std::vector<uint8_t> field;  // what is written to both
  };
  const Header headers[] = {
      {"8bit-type2.png", 16, 20, {0x00, 0x7f, 0xff, 0xff}},
      {"RGB.gif", 6, 8, {0xff, 0xff}},
      {"24bit.bmp", 18, 22, {0xff, 0xff, 0x7f, 0x00}},
  };
  for (const Header& header : headers) {
    CAPTURE(header.asset);
    std::vector<uint8_t> bytes = ReadAsset(header.asset);
    std::memcpy(&bytes[header.width_at], header.field.data(), header.field.size());
    std::memcpy(&bytes[header.height_at], header.field.data(), header.field.size());
    if (std::string(header.asset).ends_with("png")) {
      // The checksum is judged first, as in Pillow.
      const uint8_t crc[] = {0x1a, 0xc9, 0xd3, 0xbe};
      std::memcpy(&bytes[29], crc, sizeof(crc));
    }
    const auto image = DecodeImage(bytes, ImagePolicy::kUprightAlphaDropped, {});
    REQUIRE_FALSE(image.ok());
    CHECK(image.status().code() == ErrorCode::kTooLarge);
  }
  const std::string ppm = "P6 60000 60000 255\n";
  const auto image = DecodeImage(std::vector<uint8_t>(ppm.begin(), ppm.end()),
                                 ImagePolicy::kUprightAlphaDropped, {});
  REQUIRE_FALSE(image.ok());
  CHECK(image.status().code() == ErrorCode::kTooLarge);
}

// Found by fuzz_tiff_samples: the fourth byte of a pixel of three was read, beyond the last pixel.
TEST_CASE("a TIFF whose alpha would be one of its colours is refused", "[hostile]") {
  const auto image = DecodeImage(TiffWithAlphaAmongColors(), ImagePolicy::kUprightAlphaDropped, {});
  REQUIRE_FALSE(image.ok());
  CHECK(image.status().code() == ErrorCode::kInvalidInput);
}

}  // namespace
}  // namespace idefics
