// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/arena_size.h"

#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <fstream>
#include <string>
#include <vector>

namespace idefics {
namespace {

namespace fs = std::filesystem;

// A file system with a machine's numbers.
class Machine {
 public:
  Machine() : root_(fs::temp_directory_path() / ("arena_size_test." + std::to_string(getpid()))) {
    fs::create_directories(root_ / "proc");
    fs::create_directories(root_ / "sys/fs/cgroup");
  }
  ~Machine() { fs::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) {
    std::ofstream(root_ / path) << text;
  }
  const fs::path& root() const { return root_; }

 private:
  fs::path root_;
};

TEST_CASE("free memory is the system's or the container's, whichever is less", "[arena]") {
  Machine machine;
  CHECK(FreeHostBytes(machine.root()) == 0);
  machine.Write("proc/meminfo", "MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 80 kB\n");
  CHECK(FreeHostBytes(machine.root()) == 80 * 1024);
  machine.Write("sys/fs/cgroup/memory.max", "max\n");
  CHECK(FreeHostBytes(machine.root()) == 80 * 1024);
  machine.Write("sys/fs/cgroup/memory.max", "50000\n");
  machine.Write("sys/fs/cgroup/memory.stat", "anon 20000\nfile 29000\n");
  CHECK(FreeHostBytes(machine.root()) == 30000);
  machine.Write("sys/fs/cgroup/memory.stat", "anon 60000\n");
  CHECK(FreeHostBytes(machine.root()) == 0);
}

TEST_CASE("this machine has free memory", "[arena]") { CHECK(FreeHostBytes() > (1 << 20)); }

TEST_CASE("the image cache takes a sixteenth of what is free, 32 to 512 slots", "[arena]") {
  CHECK(ImageSlotsThatFit(0, 1000) == 32);
  CHECK(ImageSlotsThatFit(1'600'000, 1000) == 100);
  CHECK(ImageSlotsThatFit(uint64_t{1} << 62, 1000) == 512);
}

TEST_CASE("the arena takes what it is given, not more than can be used", "[arena]") {
  CHECK(KvTokensThatFit(2'000'000, 100, 50'000) == 20'000);
  CHECK(KvTokensThatFit(4'000'000'000, 100, 50'000) == 50'000);
  CHECK(KvTokensThatFit(0, 100, 50'000) == 1024);
  CHECK(KvTokensThatFit(0, 100, 512) == 512);
}

TEST_CASE("caches that several devices divide are as large as the one with the least room allows",
          "[arena]") {
  const std::vector<CacheRoom> devices = {
      {4'000'000, 100, 1000}, {4'000'000, 300, 0}, {16'000'000, 400, 2000}};
  const CacheSizes sizes = SizesThatFit({}, devices, 0.5, 1'000'000);
  CHECK(sizes.image_slots == 4'000'000 / 16 / 1000);
  // The second has no pictures: half of 4 MB, 300 bytes a token.
  CHECK(sizes.kv_tokens == 2'000'000 / 300);
  CHECK(SizesThatFit({}, devices, 0.5, 2000).kv_tokens == 2000);
  const CacheSizes asked = SizesThatFit({50, 7}, devices, 0.5, 1'000'000);
  CHECK(asked.kv_tokens == 50);
  CHECK(asked.image_slots == 7);
  // Pictures that were asked for are taken off what is left for tokens.
  CHECK(SizesThatFit({0, 1800}, devices, 0.5, 1'000'000).kv_tokens == 2000);
}

}  // namespace
}  // namespace idefics
