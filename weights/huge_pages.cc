// SPDX-License-Identifier: Apache-2.0
#include "weights/huge_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <utility>

#include "common/caught.h"
#include "common/check.h"
#include "common/log.h"

namespace idefics {
namespace {

constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
constexpr uintptr_t kPiece = uintptr_t{64} << 20;  // moved at a time

struct AddressRange {
  uintptr_t begin;
  uintptr_t end;
};

uintptr_t RoundUp(uintptr_t address) { return (address + kHugePage - 1) / kHugePage * kHugePage; }

// Of each mapping the whole huge pages from its first tensor's begin to its last one's end.
std::vector<AddressRange> RangesOf(const std::vector<TensorView>& tensors) {
  std::map<const void*, AddressRange> mappings;
  for (const TensorView& tensor : tensors) {
    if (tensor.bytes.empty()) continue;
    const auto begin = reinterpret_cast<uintptr_t>(tensor.bytes.data());
    const uintptr_t end = begin + tensor.bytes.size();
    const auto [it, first] = mappings.try_emplace(tensor.mapping.get(), AddressRange{begin, end});
    if (!first) it->second = {std::min(it->second.begin, begin), std::max(it->second.end, end)};
  }
  std::vector<AddressRange> ranges;
  for (const auto& [mapping, range] : mappings) {
    const AddressRange inner{RoundUp(range.begin), range.end / kHugePage * kHugePage};
    if (inner.begin < inner.end) ranges.push_back(inner);
  }
  return ranges;
}

void* At(uintptr_t address) { return reinterpret_cast<void*>(address); }

void Unmap(uintptr_t begin, uintptr_t end) {
  if (begin < end) IDEFICS_CHECK(munmap(At(begin), end - begin) == 0);
}

// The kernel takes the file's pages away and puts the copy's in their place under one lock: a
// thread that reads meanwhile waits for it.
bool MovePiece(AddressRange piece) {
  const uintptr_t bytes = piece.end - piece.begin;
  const uintptr_t room = bytes + kHugePage;  // what the system gives need not begin at a huge page
  void* const given =
      mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (given == MAP_FAILED) return false;
  const auto first = reinterpret_cast<uintptr_t>(given);
  const uintptr_t copy = RoundUp(first);
  Unmap(first, copy);
  Unmap(copy + bytes, first + room);
  madvise(At(copy), bytes, MADV_HUGEPAGE);  // fails where there are none
  std::memcpy(At(copy), At(piece.begin), bytes);
  IDEFICS_CHECK(mprotect(At(copy), bytes, PROT_READ) == 0);
  if (mremap(At(copy), bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, At(piece.begin)) !=
      MAP_FAILED) {
    return true;
  }
  unsigned char resident = 0;
  IDEFICS_CHECK(mincore(At(piece.begin), 1, &resident) == 0);  // it refused, and took nothing away
  Unmap(copy, copy + bytes);
  return false;
}

void MoveAndTell(const std::vector<TensorView>& tensors, const std::stop_token& stop) {
  const auto began = std::chrono::steady_clock::now();
  const Status status = MoveToHugePages(tensors, stop);
  if (stop.stop_requested()) return;
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - began);
  if (status.ok()) {
    Log(LogLevel::kInfo,
        "The weights are on huge pages, after " + std::to_string(seconds.count()) + " s");
  } else {
    Log(LogLevel::kWarning, "Some weights stay on the pages of their file: " + status.message());
  }
}

}  // namespace

bool HasHugePages(const std::filesystem::path& root) {
  std::ifstream file(root / "sys/kernel/mm/transparent_hugepage/enabled");
  std::string line;  // "always [madvise] never"
  return std::getline(file, line) && line.find("[never]") == std::string::npos;
}

Status MoveToHugePages(const std::vector<TensorView>& tensors, const std::stop_token& stop) {
  for (const AddressRange& range : RangesOf(tensors)) {
    for (uintptr_t at = range.begin; at < range.end; at += kPiece) {
      if (stop.stop_requested()) return Status::Ok();
      if (!MovePiece({at, std::min(at + kPiece, range.end)})) {
        return Status(ErrorCode::kOutOfMemory, "there is no room for weights on huge pages");
      }
    }
  }
  return Status::Ok();
}

HugePageMover::HugePageMover(std::vector<TensorView> tensors)
    : thread_([tensors = std::move(tensors)](const std::stop_token& stop) {
        try {
          MoveAndTell(tensors, stop);
        } catch (...) {
          LogCaught("Moving the weights to huge pages");
        }
      }) {}

}  // namespace idefics
