// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/arena_size.h"

#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <fstream>
#include <string>

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

}  // namespace
}  // namespace idefics
