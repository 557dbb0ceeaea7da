// SPDX-License-Identifier: Apache-2.0
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include "weights/mapped_file.h"

namespace idefics {
namespace {

constexpr size_t kFileBytes = 1 << 20;

std::filesystem::path BigFile() {
  const auto path =
      std::filesystem::temp_directory_path() / ("lost-" + std::to_string(getpid()) + ".bin");
  std::ofstream(path) << std::string(kFileBytes, 'x');
  return path;
}

struct Ended {
  int status = 0;  // as waitpid tells it
  std::string said{};
};

// Runs `act` in a child process, whose stderr is read.
template <typename Act>
Ended RunApart(const Act& act) {
  std::array<int, 2> pipe_ends{};
  REQUIRE(pipe(pipe_ends.data()) == 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(pipe_ends[1], STDERR_FILENO);
    close(pipe_ends[0]);
    act();
    _exit(0);
  }
  close(pipe_ends[1]);
  Ended ended;
  std::array<char, 4096> bytes{};
  for (ssize_t n = 0; (n = read(pipe_ends[0], bytes.data(), bytes.size())) > 0;) {
    ended.said.append(bytes.data(), static_cast<size_t>(n));
  }
  close(pipe_ends[0]);
  waitpid(child, &ended.status, 0);
  return ended;
}

void ReadByte(std::span<const uint8_t> bytes, size_t offset) {
  [[maybe_unused]] const volatile uint8_t byte = bytes[offset];
}

TEST_CASE("a mapped file that is cut short ends the process with a line that names it",
          "[weights]") {
  const auto path = BigFile();
  const Ended ended = RunApart([&] {
    const auto file = MapFile(path);
    ReadByte(file->bytes, kFileBytes - 1);
    std::filesystem::resize_file(path, 10);
    ReadByte(file->bytes, kFileBytes - 1);
  });
  std::filesystem::remove(path);
  REQUIRE(WIFEXITED(ended.status));
  CHECK(WEXITSTATUS(ended.status) == 1);
  CHECK(ended.said.find("The file " + path.string() + " can no longer be read") !=
        std::string::npos);
  CHECK(ended.said.find('\n') == ended.said.size() - 1);
}

TEST_CASE("a bus error elsewhere ends the process as before", "[weights]") {
  const auto path = BigFile();
  const Ended ended = RunApart([&] {
    { const auto gone = MapFile(path); }
    const auto file = MapFile(path);
    raise(SIGBUS);
  });
  std::filesystem::remove(path);
  REQUIRE(WIFSIGNALED(ended.status));
  CHECK(WTERMSIG(ended.status) == SIGBUS);
  CHECK(ended.said.empty());
}

}  // namespace
}  // namespace idefics
