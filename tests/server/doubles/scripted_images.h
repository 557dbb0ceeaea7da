// SPDX-License-Identifier: Apache-2.0
// An ImageSource whose image bytes are the reference itself.
#pragma once

#include <string>
#include <vector>

#include "server/fetch/image_source.h"

namespace idefics {

class ScriptedImages final : public ImageSource {
 public:
  Result<std::vector<ImageBytes>> Fetch(std::span<const std::string> references, std::stop_token,
                                        const SpanParent&) override {
    if (!failure.ok()) return failure;
    std::vector<ImageBytes> images;
    for (const std::string& reference : references) {
      images.push_back(
          std::make_shared<const std::vector<uint8_t>>(reference.begin(), reference.end()));
    }
    return images;
  }

  Status failure;
};

}  // namespace idefics
