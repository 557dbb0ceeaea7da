// SPDX-License-Identifier: Apache-2.0
// Who may ask: keys that a request names in its Authorization header. Thread safe.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/mutex.h"
#include "common/status.h"
#include "server/http/message.h"

namespace idefics {

class ApiKeys {
 public:
  // `keys`: separated by commas. `file`: "" is none; else lines of NAME:KEY, where empty lines and
  // those that begin with # do not count. kInvalidInput where a line has no key, or the file none.
  static Result<std::unique_ptr<ApiKeys>> Load(const std::string& keys, std::string file);

  // Reads the file again. Where that fails the keys stay as they are.
  Status Reload() IDEFICS_EXCLUDES(mutex_);

  // Whose key the request has ("Bearer KEY"): its NAME, or what stands for a key without one.
  // nullopt: it has none of the keys. Takes the same time for each wrong key. REQUIRES: !empty().
  std::optional<std::string> OwnerOf(const HttpRequest& request) const IDEFICS_EXCLUDES(mutex_);

  bool empty() const IDEFICS_EXCLUDES(mutex_);

 private:
  struct Key {
    std::string digest;  // sha256: what is compared
    std::string owner;
  };
  using Keys = std::vector<Key>;

  ApiKeys(Keys given, std::string file) : given_(std::move(given)), file_(std::move(file)) {}
  static Result<Keys> ReadFile(const std::string& path);
  std::shared_ptr<const Keys> Current() const IDEFICS_EXCLUDES(mutex_);

  const Keys given_;
  const std::string file_;
  mutable Mutex mutex_;
  std::shared_ptr<const Keys> keys_ IDEFICS_GUARDED_BY(mutex_);
};

}  // namespace idefics
