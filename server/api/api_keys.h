// SPDX-License-Identifier: Apache-2.0
// Who may ask: keys that a request names in its Authorization header. Thread safe.
#pragma once

#include <memory>
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

  // Whether the request has one of the keys: "Bearer KEY". True for all where there are no keys.
  // Takes the same time for each wrong key.
  bool Allows(const HttpRequest& request) const IDEFICS_EXCLUDES(mutex_);

  bool empty() const IDEFICS_EXCLUDES(mutex_);

 private:
  using Digests = std::vector<std::string>;  // sha256 of each key: what is compared

  ApiKeys(Digests given, std::string file) : given_(std::move(given)), file_(std::move(file)) {}
  static Result<Digests> ReadFile(const std::string& path);

  const Digests given_;
  const std::string file_;
  mutable Mutex mutex_;
  std::shared_ptr<const Digests> digests_ IDEFICS_GUARDED_BY(mutex_);
};

}  // namespace idefics
