// SPDX-License-Identifier: Apache-2.0
// `idefics-server inspect BUNDLE`: what a bundle holds and what it will need in memory, after
// checking every file's hash. Exit code 0, or 1 with one sentence on `err`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <ostream>

#include "common/defaults.h"
#include "weights/manifest.h"

namespace idefics {

struct InspectOptions {
  std::filesystem::path path;
  bool json = false;          // one JSON object instead of tables
  bool show_progress = true;  // a bar on stderr while hashing
  // --kv-dtype, --kv-tokens and --image-cache-slots of the server whose memory is estimated; where
  // it decides itself, it takes as many images or more.
  KvDType kv_dtype = KvDType::kAsInBundle;
  int64_t kv_tokens = 8192;
  int64_t image_cache_slots = defaults::kLeastImageSlots;
};

int RunInspect(const InspectOptions& options, std::ostream& out, std::ostream& err);

}  // namespace idefics
