// SPDX-License-Identifier: Apache-2.0
// VerificationCache: remembers that a bundle's hashes were found right. A file of a few lines in
// the user's cache folder, one for each bundle, holds the sha256 of bundle.json and what stat()
// says of every file. As long as all of that is unchanged, no file was written to and hashing can
// be left out. One thread. Nothing here fails: without an entry the bundle is hashed again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "weights/manifest.h"

namespace idefics {

class VerificationCache {
 public:
  // Looks at the files now, before they are hashed. `folder`: of the entries of all bundles; empty:
  // none is read or written. `manifest`: the text of bundle.json.
  VerificationCache(const std::filesystem::path& folder, const std::filesystem::path& bundle,
                    std::string_view manifest, const std::map<std::string, BundleFile>& files);

  // Whether exactly these files were found right before.
  bool Matches() const;

  // Writes the entry, unless a file changed after construction or so shortly before now_ns that a
  // later change might bear the same time. now_ns: nanoseconds since 1970. REQUIRES: the hashes
  // were compared after construction and are right.
  void Remember(int64_t now_ns) const;

 private:
  // One line for each file, empty where one cannot be read; `newest`: their latest change, in ns.
  std::string Describe(int64_t* newest) const;

  std::filesystem::path bundle_;
  std::filesystem::path file_;  // the entry
  std::map<std::string, BundleFile> files_;
  std::string heading_;
  std::string before_;
};

// The system's clock: nanoseconds since 1970.
int64_t WallClockNs();

// "$XDG_CACHE_HOME/cog-idefics/verified", else below "$HOME/.cache"; empty where neither is set.
std::filesystem::path DefaultVerificationCacheFolder();

}  // namespace idefics
