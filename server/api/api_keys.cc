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

// The key of an Authorization header, "" where it is of another scheme; without one, X-Api-Key's.
std::string_view KeyOf(const HttpRequest& request) {
  constexpr std::string_view kScheme = "bearer ";
  const std::string* value = request.Header("Authorization");
  if (value == nullptr) {
    const std::string* key = request.Header("X-Api-Key");
    return key == nullptr ? std::string_view() : *key;
  }
  if (value->size() <= kScheme.size()) return "";
  const std::string_view text = *value;
  if (ToLower(text.substr(0, kScheme.size())) != kScheme) return "";
  const std::string_view key = text.substr(kScheme.size());
  return key.substr(std::min(key.find_first_not_of(' '), key.size()));
}

// Looks at every byte.
bool SameDigest(const std::string& known, const std::string& digest) {
  size_t difference = known.size() ^ digest.size();
  for (size_t i = 0; i < known.size() && i < digest.size(); ++i) {
    difference |= static_cast<unsigned char>(known[i] ^ digest[i]);
  }
  return difference == 0;
}

}  // namespace

Result<ApiKeys::Keys> ApiKeys::ReadFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return Status::InvalidInput("--api-key-file: " + path + " cannot be read");
  Keys keys;
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
    keys.push_back({DigestOf(std::string_view(line).substr(colon + 1)), line.substr(0, colon)});
  }
  if (keys.empty()) return Status::InvalidInput("--api-key-file: " + path + " holds no key");
  return keys;
}

Result<std::unique_ptr<ApiKeys>> ApiKeys::Load(const std::string& keys, std::string file) {
  Keys given;
  std::istringstream in(keys);
  for (std::string key; std::getline(in, key, ',');) {
    if (key.empty()) continue;
    const std::string digest = DigestOf(key);
    given.push_back({digest, digest});
  }
  if (given.empty() && !keys.empty()) return Status::InvalidInput("--api-key holds no key");
  std::unique_ptr<ApiKeys> loaded(new ApiKeys(std::move(given), std::move(file)));
  RETURN_IF_ERROR(loaded->Reload());
  return loaded;
}

Status ApiKeys::Reload() {
  Keys all = given_;
  if (!file_.empty()) {
    ASSIGN_OR_RETURN(Keys read, ReadFile(file_));
    all.insert(all.end(), read.begin(), read.end());
  }
  const MutexLock lock(mutex_);
  keys_ = std::make_shared<const Keys>(std::move(all));
  return Status::Ok();
}

std::shared_ptr<const ApiKeys::Keys> ApiKeys::Current() const {
  const MutexLock lock(mutex_);
  return keys_;
}

bool ApiKeys::empty() const { return Current()->empty(); }

std::optional<std::string> ApiKeys::OwnerOf(const HttpRequest& request) const {
  const std::string digest = DigestOf(KeyOf(request));
  const Key* found = nullptr;
  const std::shared_ptr<const Keys> keys = Current();
  for (const Key& key : *keys) {
    if (SameDigest(key.digest, digest)) found = &key;
  }
  return found == nullptr ? std::nullopt : std::optional(found->owner);
}

}  // namespace idefics
