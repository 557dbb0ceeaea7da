// SPDX-License-Identifier: Apache-2.0
#include "weights/verified_stamp.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <thread>

#include "bundle_fixture.h"
#include "weights/bundle.h"

namespace idefics {
namespace {

using testing::TemporaryFolder;
using testing::WriteFile;

// Longer than the time in which a file's next change might not show in its times.
constexpr auto kSettled = std::chrono::milliseconds(150);

// A small bundle that has settled, and a folder for stamps.
struct Place {
  TemporaryFolder bundle;
  TemporaryFolder cache;

  Place() {
    testing::WriteSmallBundle(bundle.path());
    std::this_thread::sleep_for(kSettled);
  }

  OpenBundleOptions Options() const {
    return {.verify_hashes = VerifyHashes::kChanged, .stamps = cache.path() / "stamps"};
  }
  bool Opens() const { return Bundle::Open(bundle.path(), Options()).ok(); }
  size_t Stamps() const {
    if (!std::filesystem::exists(cache.path() / "stamps")) return 0;
    const std::filesystem::directory_iterator all(cache.path() / "stamps");
    return static_cast<size_t>(std::distance(begin(all), end(all)));
  }
  std::filesystem::path Stamp() const {
    return std::filesystem::directory_iterator(cache.path() / "stamps")->path();
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

TEST_CASE("a bundle that was found right is not hashed again", "[stamp]") {
  const Place place;
  REQUIRE(place.Opens());
  REQUIRE(place.Stamps() == 1);
  const Result<Bundle> bundle = Bundle::Open(place.bundle.path(), {});
  const VerifiedStamp stamp(place.Options().stamps, place.bundle.path(),
                            bundle->ReadManifestText().value(), bundle->manifest().files);
  CHECK(stamp.Matches());
  // What the stamp vouches for is believed: a stamp made for wrong hashes opens their bundle.
  ExpectOtherBytes(place.bundle.path());
  CHECK_FALSE(place.Opens());
  std::ifstream file(place.bundle.path() / "bundle.json", std::ios::binary);
  const std::string wrong((std::istreambuf_iterator<char>(file)), {});
  VerifiedStamp(place.Options().stamps, place.bundle.path(), wrong, bundle->manifest().files)
      .Remember();
  CHECK(place.Opens());
  OpenBundleOptions always = place.Options();
  always.verify_hashes = VerifyHashes::kAlways;
  CHECK_FALSE(Bundle::Open(place.bundle.path(), always).ok());
}

TEST_CASE("a changed byte is found although size and modification time stayed", "[stamp]") {
  const Place place;
  REQUIRE(place.Opens());
  DamageSecretly(place);
  CHECK_FALSE(place.Opens());
}

TEST_CASE("a file of another inode with the same bytes is hashed, and remembered anew", "[stamp]") {
  const Place place;
  REQUIRE(place.Opens());
  const std::filesystem::path path = place.bundle.path() / "vision.ts";
  std::filesystem::copy_file(path, place.bundle.path() / "copy");
  std::filesystem::rename(place.bundle.path() / "copy", path);
  const auto old = std::filesystem::last_write_time(place.Stamp());
  std::this_thread::sleep_for(kSettled);
  CHECK(place.Opens());
  CHECK(std::filesystem::last_write_time(place.Stamp()) > old);
  CHECK(place.Stamps() == 1);
}

TEST_CASE("a bundle that just changed is not remembered", "[stamp]") {
  const Place place;
  WriteFile(place.bundle.path() / "vision.ts", "vision script");
  CHECK(place.Opens());
  CHECK(place.Stamps() == 0);
}

TEST_CASE("a damaged bundle is not remembered", "[stamp]") {
  const Place place;
  ExpectOtherBytes(place.bundle.path());
  CHECK_FALSE(place.Opens());
  CHECK(place.Stamps() == 0);
}

TEST_CASE("a corrupt stamp is ignored and replaced", "[stamp]") {
  const Place place;
  REQUIRE(place.Opens());
  for (const std::string& text :
       {std::string(), std::string("verified"), std::string(5000, '\0')}) {
    WriteFile(place.Stamp(), text);
    CHECK(place.Opens());
    CHECK(std::filesystem::file_size(place.Stamp()) > 200);
    CHECK(std::filesystem::file_size(place.Stamp()) != text.size());
  }
}

TEST_CASE("where no stamp can be written the bundle is hashed each time", "[stamp]") {
  const Place place;
  OpenBundleOptions options = place.Options();
  for (const char* folder : {"", "/proc/none", "/dev/null/stamps"}) {
    options.stamps = folder;
    CHECK(Bundle::Open(place.bundle.path(), options).ok());
  }
  WriteFile(place.cache.path() / "stamps", "a file in the folder's place");
  CHECK(place.Opens());
  DamageSecretly(place);
  CHECK_FALSE(place.Opens());
}

TEST_CASE("two bundles have two stamps, one bundle by two names has one", "[stamp]") {
  const Place place;
  const TemporaryFolder other;
  testing::WriteSmallBundle(other.path());
  std::this_thread::sleep_for(kSettled);
  CHECK(place.Opens());
  CHECK(Bundle::Open(other.path(), place.Options()).ok());
  CHECK(place.Stamps() == 2);
  std::filesystem::create_directory_symlink(other.path(), place.cache.path() / "link");
  CHECK(Bundle::Open(place.cache.path() / "link", place.Options()).ok());
  CHECK(place.Stamps() == 2);
}

TEST_CASE("stamps lie in the user's cache folder", "[stamp]") {
  const auto with = [](const char* cache, const char* home) {
    setenv("XDG_CACHE_HOME", cache, 1);
    setenv("HOME", home, 1);
    return DefaultStampFolder();
  };
  CHECK(with("/c", "/h") == "/c/cog-idefics/verified");
  CHECK(with("", "/h") == "/h/.cache/cog-idefics/verified");
  CHECK(with("relative", "/h") == "/h/.cache/cog-idefics/verified");
  CHECK(with("", "").empty());
}

}  // namespace
}  // namespace idefics
