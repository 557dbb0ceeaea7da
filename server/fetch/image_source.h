// SPDX-License-Identifier: Apache-2.0
// Where the bytes of images come from, as the adapters see it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "common/status.h"
#include "server/trace/span.h"

namespace idefics {

using ImageBytes = std::shared_ptr<const std::vector<uint8_t>>;

class ImageSource {
 public:
  virtual ~ImageSource() = default;

  // The file of each reference (http(s) URL, data URI, file: where allowed), in order; the first
  // failure ends it, and its item() is the reference's index, if it is about one. Equal references
  // share their bytes. Downloads are spans below `parent`. Any thread. kCanceled: `stop` was
  // obeyed.
  virtual Result<std::vector<ImageBytes>> Fetch(std::span<const std::string> references,
                                                std::stop_token stop, const SpanParent& parent) = 0;
};

}  // namespace idefics
