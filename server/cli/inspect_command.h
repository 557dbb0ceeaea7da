// SPDX-License-Identifier: Apache-2.0
// `idefics-server inspect BUNDLE`: what a bundle holds and what it will need in memory, after
// checking every file's hash. Exit code 0, or 1 with one sentence on `err`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <ostream>

namespace idefics {

struct InspectOptions {
  std::filesystem::path path;
  bool json = false;           // one JSON object instead of tables
  bool show_progress = true;   // a bar on stderr while hashing
  int64_t kv_tokens = 8192;    // --kv-tokens and --image-entries of the server to be: the memory
  int64_t image_entries = 32;  // it will take for them
};

int RunInspect(const InspectOptions& options, std::ostream& out, std::ostream& err);

}  // namespace idefics
