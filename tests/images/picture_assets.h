// SPDX-License-Identifier: Apache-2.0
// The small image files of tests/assets/pixels, written by scripts/goldens/make_pixels.py.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace idefics {

std::vector<std::string> AssetNames();  // sorted
std::vector<uint8_t> ReadAsset(const std::string& name);

}  // namespace idefics
