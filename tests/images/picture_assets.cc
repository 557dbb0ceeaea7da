// SPDX-License-Identifier: Apache-2.0
#include "tests/images/picture_assets.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace idefics {
namespace {

const std::filesystem::path kFolder = IDEFICS_SOURCE_DIR "/tests/assets/pixels";

}  // namespace

std::vector<std::string> AssetNames() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<uint8_t> ReadAsset(const std::string& name) {
  std::ifstream file(kFolder / name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace idefics
