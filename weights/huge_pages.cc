// SPDX-License-Identifier: Apache-2.0
#include "weights/huge_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "common/progress.h"

namespace idefics {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kLine = 64;
constexpr size_t kPiece = size_t{16} << 20;  // copied at a time

uintptr_t RoundUp(uintptr_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Begins at a huge page; null where the system has no such memory.
std::shared_ptr<uint8_t> Allocate(size_t bytes) {
  const size_t size = bytes + kHugePage;  // what the system gives need not begin at one
  void* const address =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) return nullptr;
  madvise(address, size, MADV_HUGEPAGE);  // fails where there are none
  const uintptr_t first = RoundUp(reinterpret_cast<uintptr_t>(address), kHugePage);
  return {reinterpret_cast<uint8_t*>(first), [address, size](uint8_t*) { munmap(address, size); }};
}

// Unmaps the whole pages of a piece of a file; they stay in the page cache while there is room.
void Drop(std::span<const uint8_t> piece) {
  constexpr size_t kPage = 4096;
  const auto begin = RoundUp(reinterpret_cast<uintptr_t>(piece.data()), kPage);
  const auto end = reinterpret_cast<uintptr_t>(piece.data() + piece.size()) / kPage * kPage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

struct Piece {
  std::span<const uint8_t> from;
  uint8_t* to;
};

void CopyPieces(const std::vector<Piece>& pieces, int num_threads, uint64_t total) {
  std::atomic<size_t> next = 0;
  std::atomic<uint64_t> copied = 0;
  const auto copy = [&](Progress* progress) {
    for (size_t i = next++; i < pieces.size(); i = next++) {
      const Piece& piece = pieces[i];
      std::memcpy(piece.to, piece.from.data(), piece.from.size());
      Drop(piece.from);
      copied += piece.from.size();
      if (progress != nullptr) progress->Advance(copied.exchange(0));
    }
  };
  Progress progress("Loading weights", total, "B");
  std::vector<std::jthread> helpers;
  for (int i = 1; i < num_threads; ++i) helpers.emplace_back(copy, nullptr);
  copy(&progress);
  helpers.clear();  // joins them
  progress.Advance(copied);
}

}  // namespace

bool HasHugePages(const std::filesystem::path& root) {
  std::ifstream file(root / "sys/kernel/mm/transparent_hugepage/enabled");
  std::string line;  // "always [madvise] never"
  return std::getline(file, line) && line.find("[never]") == std::string::npos;
}

Result<std::vector<TensorView>> CopyToHugePages(const std::vector<TensorView>& tensors,
                                                int num_threads) {
  size_t size = 0;
  uint64_t total = 0;
  for (const TensorView& tensor : tensors) {
    size += RoundUp(tensor.bytes.size(), kLine);
    total += tensor.bytes.size();
  }
  const std::shared_ptr<uint8_t> memory = Allocate(size);
  if (memory == nullptr) {
    return Status(ErrorCode::kOutOfMemory,
                  "there are no " + std::to_string(size) + " bytes of memory for the weights");
  }
  std::vector<TensorView> copies = tensors;
  std::vector<Piece> pieces;
  uint8_t* to = memory.get();
  for (TensorView& tensor : copies) {
    const std::span<const uint8_t> from = tensor.bytes;
    for (size_t at = 0; at < from.size(); at += kPiece) {
      pieces.push_back({from.subspan(at, std::min(kPiece, from.size() - at)), to + at});
    }
    tensor.bytes = {to, from.size()};
    tensor.mapping = memory;
    to += RoundUp(from.size(), kLine);
  }
  CopyPieces(pieces, num_threads, total);
  return copies;
}

}  // namespace idefics
