// SPDX-License-Identifier: Apache-2.0
// Compares the files of a bundle folder with what its manifest says of them. Both functions fail
// with kInvalidInput and one sentence: the file, what it should be and what it is.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "common/status.h"
#include "weights/manifest.h"

namespace idefics {

// Every file is there, a regular file, and has its size.
Status VerifyFileSizes(const std::filesystem::path& folder,
                       const std::map<std::string, BundleFile>& files);

struct VerifyHashesOptions {
  int num_threads = 2;  // each hashes one file at a time
  bool show_progress = false;
};

// Every file has its sha256. Reads all bytes, and asks the system to keep them cached.
Status VerifyFileHashes(const std::filesystem::path& folder,
                        const std::map<std::string, BundleFile>& files,
                        const VerifyHashesOptions& options);

}  // namespace idefics
