// SPDX-License-Identifier: Apache-2.0
#include "weights/huge_pages.h"

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "bundle_fixture.h"
#include "weights/bundle.h"
#include "weights/mapped_file.h"

namespace idefics {
namespace {

using testing::TemporaryFolder;

TensorView View(const std::string& name, std::span<const uint8_t> bytes) {
  TensorView view;
  view.name = name;
  view.dtype = DType::kU8;
  view.shape = {static_cast<int64_t>(bytes.size())};
  view.bytes = bytes;
  return view;
}

// The file that the system names for an address in /proc/self/maps; "": memory without one.
std::string FileAt(const uint8_t* address) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    uintptr_t begin = 0;
    uintptr_t end = 0;
    REQUIRE(std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR, &begin, &end) == 2);
    const auto wanted = reinterpret_cast<uintptr_t>(address);
    if (wanted < begin || wanted >= end) continue;
    const size_t path = line.find('/');
    return path == std::string::npos ? "" : line.substr(path);
  }
  return "nothing is mapped there";
}

// Several pieces, and ends within a huge page; every 8 bytes hold their own number.
std::string Numbers() {
  constexpr uint64_t kCount = (uint64_t{150} << 20) / sizeof(uint64_t) + 1234;
  std::string bytes(kCount * sizeof(uint64_t), ' ');
  for (uint64_t i = 0; i < kCount; ++i) std::memcpy(&bytes[i * sizeof i], &i, sizeof i);
  return bytes;
}

bool AreNumbers(std::span<const uint8_t> bytes) {
  for (uint64_t i = 0; i < bytes.size() / sizeof i; ++i) {
    uint64_t number = 0;
    std::memcpy(&number, &bytes[i * sizeof i], sizeof i);
    if (number != i) return false;
  }
  return true;
}

class MappedNumbers {
 public:
  MappedNumbers() {
    testing::WriteFile(folder_.path() / "weights", Numbers());
    Result<MappedFile> file = MapFile(folder_.path() / "weights");
    REQUIRE(file.ok());
    file_ = *file;
  }

  std::span<const uint8_t> bytes() const { return file_.bytes; }
  std::vector<TensorView> tensors() const {
    const size_t half = bytes().size() / 2;
    std::vector<TensorView> tensors = {View("a", bytes().first(half)), View("none", {}),
                                       View("b", bytes().subspan(half))};
    for (TensorView& tensor : tensors) tensor.mapping = file_.owner;
    return tensors;
  }

 private:
  TemporaryFolder folder_;
  MappedFile file_;
};

TEST_CASE("weights move under their readers, whole huge pages of them", "[huge_pages]") {
  const MappedNumbers numbers;
  const std::span<const uint8_t> bytes = numbers.bytes();
  std::atomic<bool> moved = false;
  std::atomic<int> wrong = 0;
  std::vector<std::jthread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      do {
        if (!AreNumbers(bytes)) ++wrong;
      } while (!moved);
    });
  }
  const Status status = MoveToHugePages(numbers.tensors(), {});
  moved = true;
  readers.clear();
  CHECK(status.ok());
  CHECK(wrong == 0);
  CHECK(AreNumbers(bytes));
  constexpr size_t kHugePage = size_t{2} << 20;
  for (size_t at = kHugePage; at + kHugePage <= bytes.size(); at += kHugePage) {
    REQUIRE(FileAt(bytes.data() + at).empty());
  }
}

TEST_CASE("a move that is to end moves nothing more", "[huge_pages]") {
  const MappedNumbers numbers;
  std::stop_source stop;
  stop.request_stop();
  CHECK(MoveToHugePages(numbers.tensors(), stop.get_token()).ok());
  CHECK(FileAt(numbers.bytes().data() + numbers.bytes().size() / 2).ends_with("/weights"));
}

TEST_CASE("weights smaller than a huge page stay", "[huge_pages]") {
  const TemporaryFolder folder;
  testing::WriteSmallBundle(folder.path());
  const Result<Bundle> bundle = Bundle::Open(folder.path(), {});
  REQUIRE(bundle.ok());
  const std::vector<TensorView>& tensors = bundle->tensors();
  CHECK(MoveToHugePages(tensors, {}).ok());
  CHECK(FileAt(tensors[0].bytes.data()).ends_with(".safetensors"));
  CHECK(std::string(tensors[0].bytes.begin(), tensors[0].bytes.end()) == "bbbbbbbbbbbb");
}

TEST_CASE("what the system says of huge pages is read", "[huge_pages]") {
  const TemporaryFolder root;
  CHECK_FALSE(HasHugePages(root.path()));
  const auto folder = root.path() / "sys/kernel/mm/transparent_hugepage";
  std::filesystem::create_directories(folder);
  for (const auto& [text, has] :
       {std::pair("always [madvise] never\n", true), std::pair("[always] madvise never\n", true),
        std::pair("always madvise [never]\n", false)}) {
    testing::WriteFile(folder / "enabled", text);
    CHECK(HasHugePages(root.path()) == has);
  }
}

}  // namespace
}  // namespace idefics
