// SPDX-License-Identifier: Apache-2.0
// VerifiedStamp: the memory of a bundle whose hashes were found right. A file of a few lines in the
// user's cache folder, one a bundle, holds the sha256 of bundle.json and what stat() says of every
// file; while all of it still holds, no file was written to, and hashing can be left out. One
// thread. Nothing here fails: without a stamp the bundle is hashed again.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "weights/manifest.h"

namespace idefics {

class VerifiedStamp {
 public:
  // Looks at the files now, before they are hashed. `stamps`: the folder of all stamps; empty: none
  // is read or written. `manifest`: the text of bundle.json.
  VerifiedStamp(const std::filesystem::path& stamps, const std::filesystem::path& bundle,
                std::string_view manifest, const std::map<std::string, BundleFile>& files);

  // Whether these very files were found right before.
  bool Matches() const;

  // REQUIRES: the hashes were compared after construction. Writes nothing where a file changed
  // since, or so shortly before that its next change might bear the same time.
  void Remember() const;

 private:
  // One line a file, empty where one cannot be looked at; `newest`: their latest change, in ns.
  std::string Describe(int64_t* newest) const;

  std::filesystem::path bundle_;
  std::filesystem::path file_;  // the stamp itself
  std::map<std::string, BundleFile> files_;
  std::string heading_;
  std::string before_;
};

// "$XDG_CACHE_HOME/cog-idefics/verified", else below "$HOME/.cache"; empty where neither is set.
std::filesystem::path DefaultStampFolder();

}  // namespace idefics
