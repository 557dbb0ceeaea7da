// SPDX-License-Identifier: Apache-2.0
// Bundle: a bundle folder (docs/architecture.md#the-bundle), checked and mapped. Immutable after
// Open, any thread. Knows no torch: weights/module_loader.h turns its tensors into modules.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/status.h"
#include "weights/manifest.h"
#include "weights/safetensors.h"

namespace idefics {

// When every byte is read and hashed, about 1 s per GB and thread: each time, unless the same files
// were found right before (verified_stamp.h), or never. Sizes are compared each time.
enum class VerifyHashes { kAlways, kChanged, kNever };

struct OpenBundleOptions {
  VerifyHashes verify_hashes = VerifyHashes::kAlways;
  std::filesystem::path stamps{};  // of kChanged, see DefaultStampFolder(); empty: as kAlways
  bool show_progress = false;      // a bar on stderr while hashing
  int num_threads = 2;             // for hashing; one file a thread at a time
};

class Bundle {
 public:
  // Fails with kInvalidInput, naming the file, what it should be and what it is, where the folder
  // or a file is missing, a size or hash differs, bundle.json is malformed or of a newer format
  // version, or a weight file is malformed or holds a name twice.
  static Result<Bundle> Open(const std::filesystem::path& path, const OpenBundleOptions& options);

  const std::filesystem::path& path() const { return path_; }
  const BundleManifest& manifest() const { return manifest_; }

  // Every tensor: file by file, in the order of their bytes.
  const std::vector<TensorView>& tensors() const { return tensors_; }
  // nullptr where there is none of that name.
  const TensorView* Find(std::string_view name) const;
  // Sum over tensors().
  uint64_t weight_bytes() const { return weight_bytes_; }

  // Path of a file named in manifest().files. REQUIRES: it is named there.
  std::filesystem::path FilePath(const std::string& name) const;
  // Its content, e.g. ReadFile("vision.ts"). Fails where the manifest does not name it or it cannot
  // be read.
  Result<std::string> ReadFile(const std::string& name) const;
  // bundle.json itself.
  Result<std::string> ReadManifestText() const;

 private:
  Bundle() = default;
  Status Verify(const std::string& manifest_text, const OpenBundleOptions& options) const;
  Status MapTensors();

  std::filesystem::path path_;
  BundleManifest manifest_;
  std::vector<TensorView> tensors_;
  std::unordered_map<std::string, size_t> index_;  // name -> place in tensors_
  uint64_t weight_bytes_ = 0;
};

}  // namespace idefics
