// SPDX-License-Identifier: Apache-2.0
// Copies to a device by several threads, each through two small buffers of the host that the device
// reads by itself: a thread reads a piece into one of them, from a mapped file for example, while
// the device copies the other. Knows neither torch nor the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace idefics {

constexpr size_t kStagingBytes = size_t{16} << 20;
constexpr size_t kStagingBuffers = 2;

// Valid while the owner lives, or by somebody else's promise where there is none.
struct HeldBytes {
  std::span<const uint8_t> bytes;
  std::shared_ptr<const void> owner{};
};

struct StagedCopy {
  // As stored, for progress; of a copy in pieces also what read gives.
  uint64_t bytes;
  // Called on the thread that copies, before it starts; may throw.
  std::function<HeldBytes()> read;
  // Whether read costs nothing, so that several threads share the copy.
  bool in_pieces;
};

// One thread's way to the device. Methods may throw.
class CopyLane {
 public:
  virtual ~CopyLane() = default;
  // kStagingBytes.
  virtual std::span<uint8_t> Buffer(size_t buffer) = 0;
  // Starts copying the buffer's first `bytes` to where copy number `copy` goes, from `offset` on.
  virtual void Start(size_t buffer, size_t bytes, size_t copy, uint64_t offset) = 0;
  // Waits until the buffer's last copy is made.
  virtual void Wait(size_t buffer) = 0;
};

// Makes all copies, each lane's on a thread of its own, and waits for them. A lane without work
// makes none. on_copied(stored bytes): called by one thread at a time. Rethrows what was thrown
// first; the other threads then end after what they have started.
void CopyInLanes(std::span<const StagedCopy> copies,
                 std::span<const std::unique_ptr<CopyLane>> lanes,
                 const std::function<void(uint64_t)>& on_copied);

}  // namespace idefics
