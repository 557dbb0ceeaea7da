// SPDX-License-Identifier: Apache-2.0
#include "server/api/api_keys.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string_view>
#include <utility>

#include "common/ascii.h"
#include "common/sha256.h"

namespace idefics {
namespace {

std::string DigestOf(std::string_view key) {
  return Sha256Hex({reinterpret_cast<const uint8_t*>(key.data()), key.size()});
}

// The key of an Authorization header, "" where it is of another scheme.
std::string_view BearerOf(const HttpRequest& request) {
  constexpr std::string_view kScheme = "bearer ";
  const std::string* value = request.Header("Authorization");
  if (value == nullptr || value->size() <= kScheme.size()) return "";
  const std::string_view text = *value;
  if (ToLower(text.substr(0, kScheme.size())) != kScheme) return "";
  const std::string_view key = text.substr(kScheme.size());
  return key.substr(std::min(key.find_first_not_of(' '), key.size()));
}

// Looks at every byte of every one.
bool HoldsDigest(const std::vector<std::string>& digests, const std::string& digest) {
  bool found = false;
  for (const std::string& known : digests) {
    size_t difference = known.size() ^ digest.size();
    for (size_t i = 0; i < known.size() && i < digest.size(); ++i) {
      difference |= static_cast<unsigned char>(known[i] ^ digest[i]);
    }
    found |= difference == 0;
  }
  return found;
}

}  // namespace

Result<ApiKeys::Digests> ApiKeys::ReadFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return Status::InvalidInput("--api-key-file: " + path + " cannot be read");
  Digests digests;
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || line.front() == '#') continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos || colon == 0 || colon + 1 == line.size()) {
      return Status::InvalidInput("--api-key-file: line " + std::to_string(number) + " of " + path +
                                  " is not NAME:KEY");
    }
    digests.push_back(DigestOf(std::string_view(line).substr(colon + 1)));
  }
  if (digests.empty()) return Status::InvalidInput("--api-key-file: " + path + " holds no key");
  return digests;
}

Result<std::unique_ptr<ApiKeys>> ApiKeys::Load(const std::string& keys, std::string file) {
  Digests given;
  std::istringstream in(keys);
  for (std::string key; std::getline(in, key, ',');) {
    if (!key.empty()) given.push_back(DigestOf(key));
  }
  if (given.empty() && !keys.empty()) return Status::InvalidInput("--api-key holds no key");
  std::unique_ptr<ApiKeys> loaded(new ApiKeys(std::move(given), std::move(file)));
  RETURN_IF_ERROR(loaded->Reload());
  return loaded;
}

Status ApiKeys::Reload() {
  Digests all = given_;
  if (!file_.empty()) {
    ASSIGN_OR_RETURN(Digests read, ReadFile(file_));
    all.insert(all.end(), read.begin(), read.end());
  }
  const MutexLock lock(mutex_);
  digests_ = std::make_shared<const Digests>(std::move(all));
  return Status::Ok();
}

bool ApiKeys::empty() const {
  const MutexLock lock(mutex_);
  return digests_->empty();
}

bool ApiKeys::Allows(const HttpRequest& request) const {
  std::shared_ptr<const Digests> digests;
  {
    const MutexLock lock(mutex_);
    digests = digests_;
  }
  return digests->empty() || HoldsDigest(*digests, DigestOf(BearerOf(request)));
}

}  // namespace idefics
