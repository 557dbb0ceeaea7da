// SPDX-License-Identifier: Apache-2.0
// What names an image: data URIs and URLs.
#include <cstddef>
#include <cstdint>
#include <string>

#include "common/check.h"
#include "server/fetch/data_uri.h"
#include "server/fetch/url_policy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr uint64_t kMaxBytes = 1024;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto decoded = idefics::DecodeDataUri(text, kMaxBytes);
  if (decoded.ok()) IDEFICS_CHECK(decoded->size() <= kMaxBytes && decoded->size() <= size);
  if (idefics::IsDataUri(text)) IDEFICS_CHECK(!idefics::CheckUrl(text).ok());
  IDEFICS_CHECK(idefics::ShownUrl(text).size() <= 128);
  return 0;
}
