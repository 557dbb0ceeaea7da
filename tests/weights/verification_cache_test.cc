// SPDX-License-Identifier: Apache-2.0
#include "weights/verification_cache.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <catch2/catch_test_macros.hpp>
#include <cstdint>

#include "bundle_fixture.h"
#include "weights/bundle.h"

namespace idefics {
namespace {

using testing::TemporaryFolder;
using testing::WriteFile;

// An hour after every file was written, or the moment in which vision.ts of the bundle was: the
// clock of a test moves only by this switch.
int64_t last_change_ns = 0;  // used where it is set
int64_t TestClock() {
  constexpr int64_t kHour = int64_t{3600} * 1'000'000'000;
  return last_change_ns != 0 ? last_change_ns : WallClockNs() + kHour;
}

// A small bundle and a folder for cache entries.
struct Place {
  TemporaryFolder bundle;
  TemporaryFolder cache;

  Place() {
    last_change_ns = 0;
    testing::WriteSmallBundle(bundle.path());
  }

  OpenBundleOptions Options() const {
    return {.verify_hashes = VerifyHashes::kChanged,
            .verification_cache = cache.path() / "entries",
            .now_ns = TestClock};
  }
  // Sets the clock to this much after the last change of vision.ts.
  void SetClockAfterChange(int64_t ns) const {
    struct stat info {};
    REQUIRE(stat((bundle.path() / "vision.ts").c_str(), &info) == 0);
    last_change_ns = info.st_ctim.tv_sec * int64_t{1'000'000'000} + info.st_ctim.tv_nsec + ns;
  }
  bool Opens() const { return Bundle::Open(bundle.path(), Options()).ok(); }
  size_t Entries() const {
    if (!std::filesystem::exists(cache.path() / "entries")) return 0;
    const std::filesystem::directory_iterator all(cache.path() / "entries");
    return static_cast<size_t>(std::distance(begin(all), end(all)));
  }
  std::filesystem::path Entry() const {
    return std::filesystem::directory_iterator(cache.path() / "entries")->path();
  }
};

// A manifest that belongs to other bytes of vision.ts: only hashing tells.
void ExpectOtherBytes(const std::filesystem::path& bundle) {
  std::ifstream file(bundle / "bundle.json", std::ios::binary);
  testing::Json manifest = testing::Json::parse(file);
  manifest["files"]["vision.ts"]["sha256"] = std::string(64, '0');
  WriteFile(bundle / "bundle.json", manifest.dump());
}

// Changes a byte of vision.ts so that size, inode and both of its own times stay.
void DamageSecretly(const Place& place) {
  const std::filesystem::path path = place.bundle.path() / "vision.ts";
  struct stat before {};
  REQUIRE(stat(path.c_str(), &before) == 0);
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary).put('V');
  const timespec times[] = {before.st_atim, before.st_mtim};
  REQUIRE(utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
}

TEST_CASE("a bundle that was found right is not hashed again", "[verification]") {
  const Place place;
  REQUIRE(place.Opens());
  REQUIRE(place.Entries() == 1);
  const Result<Bundle> bundle = Bundle::Open(place.bundle.path(), {});
  const VerificationCache entry(place.Options().verification_cache, place.bundle.path(),
                                bundle->ReadManifestText().value(), bundle->manifest().files);
  CHECK(entry.Matches());
  // What an entry says is believed: an entry made for wrong hashes opens their bundle.
  ExpectOtherBytes(place.bundle.path());
  CHECK_FALSE(place.Opens());
  std::ifstream file(place.bundle.path() / "bundle.json", std::ios::binary);
  const std::string wrong((std::istreambuf_iterator<char>(file)), {});
  VerificationCache(place.Options().verification_cache, place.bundle.path(), wrong,
                    bundle->manifest().files)
      .Remember(TestClock());
  CHECK(place.Opens());
  OpenBundleOptions always = place.Options();
  always.verify_hashes = VerifyHashes::kAlways;
  CHECK_FALSE(Bundle::Open(place.bundle.path(), always).ok());
}

TEST_CASE("a changed byte is found although size and modification time stayed", "[verification]") {
  const Place place;
  REQUIRE(place.Opens());
  DamageSecretly(place);
  CHECK_FALSE(place.Opens());
}

TEST_CASE("a file of another inode with the same bytes is hashed, and remembered anew",
          "[verification]") {
  const Place place;
  REQUIRE(place.Opens());
  const std::filesystem::path path = place.bundle.path() / "vision.ts";
  std::filesystem::copy_file(path, place.bundle.path() / "copy");
  std::filesystem::rename(place.bundle.path() / "copy", path);
  const std::string old = testing::ReadAll(place.Entry());
  CHECK(place.Opens());
  CHECK(testing::ReadAll(place.Entry()) != old);
  CHECK(place.Entries() == 1);
}

TEST_CASE("a bundle that just changed is not remembered", "[verification]") {
  const Place place;
  WriteFile(place.bundle.path() / "vision.ts", "vision script");
  place.SetClockAfterChange(50'000'000);
  CHECK(place.Opens());
  CHECK(place.Entries() == 0);
  place.SetClockAfterChange(200'000'000);
  CHECK(place.Opens());
  CHECK(place.Entries() == 1);
}

TEST_CASE("a damaged bundle is not remembered", "[verification]") {
  const Place place;
  ExpectOtherBytes(place.bundle.path());
  CHECK_FALSE(place.Opens());
  CHECK(place.Entries() == 0);
}

TEST_CASE("a corrupt entry is ignored and replaced", "[verification]") {
  const Place place;
  REQUIRE(place.Opens());
  for (const std::string& text :
       {std::string(), std::string("verified"), std::string(5000, '\0')}) {
    WriteFile(place.Entry(), text);
    CHECK(place.Opens());
    CHECK(std::filesystem::file_size(place.Entry()) > 200);
    CHECK(std::filesystem::file_size(place.Entry()) != text.size());
  }
}

TEST_CASE("where no entry can be written the bundle is hashed each time", "[verification]") {
  const Place place;
  OpenBundleOptions options = place.Options();
  for (const char* folder : {"", "/proc/none", "/dev/null/entries"}) {
    options.verification_cache = folder;
    CHECK(Bundle::Open(place.bundle.path(), options).ok());
  }
  WriteFile(place.cache.path() / "entries", "a file in the folder's place");
  CHECK(place.Opens());
  DamageSecretly(place);
  CHECK_FALSE(place.Opens());
}

TEST_CASE("two bundles have two entries, one bundle by two names has one", "[verification]") {
  const Place place;
  const TemporaryFolder other;
  testing::WriteSmallBundle(other.path());
  CHECK(place.Opens());
  CHECK(Bundle::Open(other.path(), place.Options()).ok());
  CHECK(place.Entries() == 2);
  std::filesystem::create_directory_symlink(other.path(), place.cache.path() / "link");
  CHECK(Bundle::Open(place.cache.path() / "link", place.Options()).ok());
  CHECK(place.Entries() == 2);
}

TEST_CASE("entries are in the user's cache folder", "[verification]") {
  const auto with = [](const char* cache, const char* home) {
    setenv("XDG_CACHE_HOME", cache, 1);
    setenv("HOME", home, 1);
    return DefaultVerificationCacheFolder();
  };
  CHECK(with("/c", "/h") == "/c/cog-idefics/verified");
  CHECK(with("", "/h") == "/h/.cache/cog-idefics/verified");
  CHECK(with("relative", "/h") == "/h/.cache/cog-idefics/verified");
  CHECK(with("", "").empty());
}

}  // namespace
}  // namespace idefics
