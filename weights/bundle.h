// SPDX-License-Identifier: Apache-2.0
// Bundle: a bundle folder (docs/architecture.md#the-bundle), checked and mapped. Immutable after
// Open, any thread. Knows no torch: weights/module_loader.h turns its tensors into modules.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "weights/manifest.h"
#include "weights/safetensors.h"
#include "weights/verification_cache.h"

namespace idefics {

// When every byte is read and hashed, which takes about 1 s per GB and thread: each time, each time
// unless the same files were found right before (verification_cache.h), or never. Sizes are
// compared each time.
enum class VerifyHashes { kAlways, kChanged, kNever };

struct OpenBundleOptions {
  VerifyHashes verify_hashes = VerifyHashes::kAlways;
  // For kChanged: see DefaultVerificationCacheFolder(); empty: as kAlways.
  std::filesystem::path verification_cache{};
  int64_t (*now_ns)() = WallClockNs;  // tests have their own clock
  bool show_progress = false;         // a bar on stderr while hashing
  int num_threads = 2;                // for hashing, one file each at a time
};

class Bundle {
 public:
  // Fails with kInvalidInput, naming the file, what it should be and what it is, where the folder
  // or a file is missing, a size or hash differs, bundle.json is malformed or of a newer format
  // version, or a weight file is malformed or holds a name twice.
  static Result<Bundle> Open(const std::filesystem::path& path, const OpenBundleOptions& options);

  const std::filesystem::path& path() const { return path_; }
  const BundleManifest& manifest() const { return manifest_; }

  // Every tensor: file by file, in the order of their bytes. Their names are distinct.
  const std::vector<TensorView>& tensors() const { return tensors_; }
  // Sum over tensors().
  uint64_t weight_bytes() const { return weight_bytes_; }

  // The content of a file of the bundle, e.g. ReadFile("vision.ts"). Fails with kInvalidInput where
  // the manifest does not name it or it cannot be read.
  Result<std::string> ReadFile(const std::string& name) const;
  // The text of bundle.json.
  Result<std::string> ReadManifestText() const;

 private:
  Bundle() = default;
  Status Verify(const std::string& manifest_text, const OpenBundleOptions& options) const;
  Status MapTensors();

  std::filesystem::path path_;
  BundleManifest manifest_;
  std::vector<TensorView> tensors_;
  uint64_t weight_bytes_ = 0;
};

}  // namespace idefics
