// SPDX-License-Identifier: Apache-2.0
#include "weights/huge_pages.h"

#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <numeric>
#include <optional>

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

TEST_CASE("copies hold the same bytes, each from a cache line on", "[huge_pages]") {
  // Several pieces of the copying threads, and ends within a page.
  std::string bytes((size_t{40} << 20) + 12345, ' ');
  std::iota(bytes.begin(), bytes.end(), '\0');
  for (size_t i = 0; i + sizeof i <= bytes.size(); i += 4096) std::memcpy(&bytes[i], &i, sizeof i);
  const TemporaryFolder folder;
  testing::WriteFile(folder.path() / "weights", bytes);
  const Result<MappedFile> file = MapFile(folder.path() / "weights");
  REQUIRE(file.ok());
  const std::span<const uint8_t> all = file->bytes;
  const std::vector<TensorView> tensors = {View("a", all.first(3)), View("b", all.subspan(3)),
                                           View("none", {}), View("c", all.last(100))};
  for (const int threads : {1, 3}) {
    const Result<std::vector<TensorView>> copies = CopyToHugePages(tensors, threads);
    REQUIRE(copies.ok());
    REQUIRE(copies->size() == tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
      const TensorView& copy = (*copies)[i];
      CHECK(copy.name == tensors[i].name);
      CHECK(copy.shape == tensors[i].shape);
      CHECK(copy.bytes.size() == tensors[i].bytes.size());
      CHECK(std::equal(copy.bytes.begin(), copy.bytes.end(), tensors[i].bytes.begin()));
      CHECK(reinterpret_cast<uintptr_t>(copy.bytes.data()) % 64 == 0);
    }
  }
}

TEST_CASE("a bundle on huge pages outlives its files", "[huge_pages]") {
  std::optional<Bundle> copy;
  {
    const TemporaryFolder folder;
    testing::WriteSmallBundle(folder.path());
    const Result<Bundle> bundle = Bundle::Open(folder.path(), {});
    REQUIRE(bundle.ok());
    CHECK(bundle->mapped_bytes() == 24);
    Result<Bundle> moved = bundle->OnHugePages(2);
    REQUIRE(moved.ok());
    copy = *moved;
  }
  CHECK(copy->weight_bytes() == 24);
  CHECK(copy->mapped_bytes() == 0);
  REQUIRE(copy->tensors().size() == 3);
  CHECK(copy->tensors()[0].name == "decoder.b");
  CHECK(std::string(copy->tensors()[0].bytes.begin(), copy->tensors()[0].bytes.end()) ==
        "bbbbbbbbbbbb");
  CHECK(std::string(copy->tensors()[2].bytes.begin(), copy->tensors()[2].bytes.end()) == "cccc");
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
