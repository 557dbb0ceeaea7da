// SPDX-License-Identifier: Apache-2.0
#include "weights/verification_cache.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "common/sha256.h"

namespace idefics {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
// File systems take their times from a clock that ticks every 10 ms or faster.
constexpr int64_t kClockTick = kSecond / 10;
constexpr size_t kNameDigits = 32;

int64_t Nanoseconds(const timespec& time) { return time.tv_sec * kSecond + time.tv_nsec; }

std::string HashText(std::string_view text) {
  return Sha256Hex({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

// Writes the whole text or nothing.
void WriteWhole(const std::filesystem::path& path, const std::string& text) {
  std::error_code ignored;
  std::filesystem::create_directories(path.parent_path(), ignored);
  std::string partial = path.string() + ".XXXXXX";
  const int fd = mkstemp(partial.data());
  if (fd < 0) return;
  const bool whole = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  close(fd);
  if (!whole || rename(partial.c_str(), path.c_str()) != 0) unlink(partial.c_str());
}

}  // namespace

VerificationCache::VerificationCache(const std::filesystem::path& folder,
                                     const std::filesystem::path& bundle, std::string_view manifest,
                                     const std::map<std::string, BundleFile>& files)
    : files_(files) {
  std::error_code error;
  bundle_ = std::filesystem::canonical(bundle, error);
  if (folder.empty() || error) return;
  file_ = folder / HashText(bundle_.string()).substr(0, kNameDigits);
  heading_ = "verified " + bundle_.string() + "\nbundle.json " + HashText(manifest) + "\n";
  int64_t newest = 0;
  before_ = Describe(&newest);
}

std::string VerificationCache::Describe(int64_t* newest) const {
  std::string text;
  for (const auto& [name, file] : files_) {
    struct stat info {};
    if (stat((bundle_ / name).c_str(), &info) != 0) return "";
    const int64_t written = Nanoseconds(info.st_mtim);
    const int64_t changed = Nanoseconds(info.st_ctim);
    *newest = std::max({*newest, written, changed});
    text += name;
    for (const int64_t fact : {static_cast<int64_t>(info.st_dev), static_cast<int64_t>(info.st_ino),
                               static_cast<int64_t>(info.st_size), written, changed}) {
      text += " " + std::to_string(fact);
    }
    text += "\n";
  }
  return text;
}

bool VerificationCache::Matches() const {
  if (before_.empty()) return false;
  std::ifstream stream(file_, std::ios::binary);
  const std::string found((std::istreambuf_iterator<char>(stream)), {});
  return found == heading_ + before_;
}

void VerificationCache::Remember(int64_t now_ns) const {
  int64_t newest = 0;
  if (before_.empty() || Describe(&newest) != before_) return;
  if (newest > now_ns - kClockTick) return;
  WriteWhole(file_, heading_ + before_);
}

int64_t WallClockNs() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return Nanoseconds(now);
}

std::filesystem::path DefaultVerificationCacheFolder() {
  const auto folder = [](const char* variable) -> std::filesystem::path {
    const char* value = getenv(variable);
    return value != nullptr && value[0] == '/' ? value : "";
  };
  std::filesystem::path cache = folder("XDG_CACHE_HOME");
  if (cache.empty() && !folder("HOME").empty()) cache = folder("HOME") / ".cache";
  return cache.empty() ? cache : cache / "cog-idefics" / "verified";
}

}  // namespace idefics
