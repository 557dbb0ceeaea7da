// SPDX-License-Identifier: Apache-2.0
// Fetches images by http(s), several at once, with limits on bytes, time, redirects and addresses;
// decodes data URIs; reads file: only where the options allow it. libcurl is not seen outside the
// .cc.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>

#include "common/byte_budget.h"
#include "common/defaults.h"
#include "server/fetch/fetch_metrics.h"
#include "server/fetch/host_list.h"
#include "server/fetch/image_source.h"

namespace idefics {

struct FetchOptions {
  bool allow_private = false;
  HostList hosts;                                  // empty: any
  ByteBudget* memory = nullptr;                    // for the files; must outlive them
  FetchMetrics* metrics = nullptr;                 // of downloads; must outlive all; may be none
  uint64_t max_bytes = defaults::kMaxImageBytes;   // of one image
  std::chrono::milliseconds connect_time{10'000};  // also the longest silence
  std::chrono::milliseconds total_time{60'000};    // for all images of a call
  std::string user_agent = "cog-idefics";
  // Set: file:PATH is read, relative paths from this folder. The command line only.
  std::optional<std::filesystem::path> file_root;
};

class ImageFetcher final : public ImageSource {
 public:
  explicit ImageFetcher(FetchOptions options);

  Result<std::vector<ImageBytes>> Fetch(std::span<const std::string> references,
                                        std::stop_token stop, const SpanParent& parent) override;

 private:
  Result<ImageBytes> ReadFile(const std::string& reference) const;

  const FetchOptions options_;
};

}  // namespace idefics
