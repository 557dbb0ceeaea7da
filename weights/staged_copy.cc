// SPDX-License-Identifier: Apache-2.0
#include "weights/staged_copy.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <thread>

#include "common/mutex.h"

namespace idefics {
namespace {

// What a thread takes at a time: a piece of a copy, or all of it.
struct Unit {
  size_t copy;
  uint64_t begin;
  uint64_t end;  // at most; the bytes decide
};

std::vector<Unit> UnitsOf(std::span<const StagedCopy> copies) {
  std::vector<Unit> units;
  for (size_t i = 0; i < copies.size(); ++i) {
    if (!copies[i].in_pieces) {
      units.push_back({i, 0, UINT64_MAX});
      continue;
    }
    for (uint64_t begin = 0; begin < copies[i].bytes; begin += kStagingBytes) {
      units.push_back({i, begin, std::min(begin + kStagingBytes, copies[i].bytes)});
    }
  }
  return units;
}

// Asks the system to read the pages of a mapped file in one go.
void ReadAhead(std::span<const uint8_t> bytes) {
  static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t into_page = reinterpret_cast<uintptr_t>(bytes.data()) % page;
  auto* const begin = const_cast<uint8_t*>(bytes.data()) - into_page;
  madvise(begin, bytes.size() + into_page, MADV_WILLNEED);
}

class Copying {
 public:
  Copying(std::span<const StagedCopy> copies, const std::function<void(uint64_t)>& on_copied)
      : copies_(copies), units_(UnitsOf(copies)), on_copied_(on_copied) {}

  size_t units() const { return units_.size(); }

  void Work(CopyLane& lane) {
    try {
      size_t buffer = 0;
      for (size_t at = next_++; at < units_.size() && !failed_; at = next_++) {
        CopyUnit(lane, units_[at], buffer);
      }
      for (buffer = 0; buffer < kStagingBuffers; ++buffer) lane.Wait(buffer);
    } catch (...) {
      const MutexLock lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
      failed_ = true;
    }
  }

  // REQUIRES: no thread works.
  void Rethrow() IDEFICS_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void CopyUnit(CopyLane& lane, const Unit& unit, size_t& buffer) {
    const StagedCopy& copy = copies_[unit.copy];
    const HeldBytes from = copy.read();
    const uint64_t end = std::min<uint64_t>(unit.end, from.bytes.size());
    for (uint64_t offset = unit.begin; offset < end && !failed_;) {
      const size_t bytes = std::min<uint64_t>(kStagingBytes, end - offset);
      const auto piece = from.bytes.subspan(offset, bytes);
      if (copy.in_pieces) ReadAhead(piece);
      lane.Wait(buffer);
      std::memcpy(lane.Buffer(buffer).data(), piece.data(), bytes);
      lane.Start(buffer, bytes, unit.copy, offset);
      buffer = (buffer + 1) % kStagingBuffers;
      offset += bytes;
    }
    const MutexLock lock(mutex_);
    on_copied_(copy.in_pieces ? end - unit.begin : copy.bytes);
  }

  const std::span<const StagedCopy> copies_;
  const std::vector<Unit> units_;
  const std::function<void(uint64_t)>& on_copied_;
  std::atomic<size_t> next_ = 0;
  std::atomic<bool> failed_ = false;
  Mutex mutex_;
  std::exception_ptr failure_ IDEFICS_GUARDED_BY(mutex_);
};

}  // namespace

void CopyInLanes(std::span<const StagedCopy> copies,
                 std::span<const std::unique_ptr<CopyLane>> lanes,
                 const std::function<void(uint64_t)>& on_copied) {
  Copying copying(copies, on_copied);
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < std::min(lanes.size(), copying.units()); ++i) {
      threads.emplace_back([&copying, &lane = *lanes[i]] { copying.Work(lane); });
    }
  }
  copying.Rethrow();
}

}  // namespace idefics
