// SPDX-License-Identifier: Apache-2.0
#include "weights/staged_copy.h"

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>

namespace idefics {
namespace {

using Bytes = std::vector<uint8_t>;

// What the lanes of a test share: the device's memory, and what they have done wrong.
struct FakeDevice {
  std::vector<Bytes> targets;
  std::atomic<int> started = 0;
  std::atomic<int> overwritten = 0;  // buffers asked for while the device still reads them
  int fail_at = -1;                  // the start that throws
};

// A device that is as slow as can be: a copy is made when somebody waits for it.
class LateLane : public CopyLane {
 public:
  explicit LateLane(FakeDevice& device) : device_(device) {
    for (Bytes& buffer : buffers_) buffer.resize(kStagingBytes);
  }

  std::span<uint8_t> Buffer(size_t buffer) override {
    if (pending_[buffer]) ++device_.overwritten;
    return buffers_[buffer];
  }
  void Start(size_t buffer, size_t bytes, size_t copy, uint64_t offset) override {
    if (device_.started++ == device_.fail_at) throw std::runtime_error("the bus is gone");
    pending_[buffer] = Pending{bytes, copy, offset};
  }
  void Wait(size_t buffer) override {
    if (!pending_[buffer]) return;
    const Pending copy = *pending_[buffer];
    std::memcpy(device_.targets.at(copy.copy).data() + copy.offset, buffers_[buffer].data(),
                copy.bytes);
    pending_[buffer].reset();
  }
  bool idle() const { return !pending_[0] && !pending_[1]; }

 private:
  struct Pending {
    size_t bytes;
    size_t copy;
    uint64_t offset;
  };

  FakeDevice& device_;
  Bytes buffers_[kStagingBuffers];
  std::optional<Pending> pending_[kStagingBuffers];
};

std::vector<std::unique_ptr<CopyLane>> Lanes(size_t count, FakeDevice& device) {
  std::vector<std::unique_ptr<CopyLane>> lanes;
  for (size_t i = 0; i < count; ++i) lanes.push_back(std::make_unique<LateLane>(device));
  return lanes;
}

// Of these sizes, each with bytes of its own.
std::vector<Bytes> Sources(const std::vector<size_t>& sizes) {
  std::vector<Bytes> sources;
  for (const size_t size : sizes) {
    Bytes& bytes = sources.emplace_back(size);
    for (size_t i = 0; i < size; ++i) {
      bytes[i] = static_cast<uint8_t>(i * 7 + (i >> 12) * 13 + (i >> 24) * 29 + sources.size());
    }
  }
  return sources;
}

std::vector<StagedCopy> CopiesOf(const std::vector<Bytes>& sources, bool in_pieces) {
  std::vector<StagedCopy> copies;
  for (const Bytes& source : sources) {
    copies.push_back({source.size(), [&source] { return HeldBytes{source}; }, in_pieces});
  }
  return copies;
}

const std::vector<size_t> kSizes = {
    0, 1, kStagingBytes - 1, kStagingBytes, kStagingBytes + 1, 3 * kStagingBytes + 5, 77};

TEST_CASE("every byte arrives, in pieces or not, over any number of lanes", "[staged_copy]") {
  const std::vector<Bytes> sources = Sources(kSizes);
  for (const bool in_pieces : {true, false}) {
    for (const size_t lanes : {1, 2, 5}) {
      INFO(lanes << " lanes, in pieces: " << in_pieces);
      FakeDevice device;
      for (const size_t size : kSizes) device.targets.emplace_back(size);
      uint64_t copied = 0;
      CopyInLanes(CopiesOf(sources, in_pieces), Lanes(lanes, device),
                  [&](uint64_t bytes) { copied += bytes; });
      CHECK((device.targets == sources));  // megabytes: not to be printed
      CHECK(device.overwritten == 0);
      CHECK(copied == std::accumulate(kSizes.begin(), kSizes.end(), uint64_t{0}));
    }
  }
}

TEST_CASE("what is made for a copy lives no longer than its lane needs it", "[staged_copy]") {
  constexpr int kCopies = 20;
  constexpr size_t kLanes = 3;
  std::atomic<int> alive = 0;
  std::atomic<int> most = 0;
  FakeDevice device;
  std::vector<StagedCopy> copies;
  for (int i = 0; i < kCopies; ++i) {
    device.targets.emplace_back(1000);
    const auto make = [&alive, &most, i] {
      const int now = ++alive;
      for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
      }
      const std::shared_ptr<Bytes> made(new Bytes(1000, static_cast<uint8_t>(i)),
                                        [&alive](Bytes* bytes) {
                                          --alive;
                                          delete bytes;
                                        });
      return HeldBytes{*made, made};
    };
    copies.push_back({5000, make, /*in_pieces=*/false});
  }
  uint64_t copied = 0;
  CopyInLanes(copies, Lanes(kLanes, device), [&](uint64_t bytes) { copied += bytes; });
  for (int i = 0; i < kCopies; ++i) {
    CHECK(device.targets[static_cast<size_t>(i)] == Bytes(1000, static_cast<uint8_t>(i)));
  }
  CHECK(alive == 0);
  CHECK(most <= static_cast<int>(kLanes));
  CHECK(copied == kCopies * 5000);  // as stored
}

TEST_CASE("the first failure is thrown, and the other lanes leave nothing under way",
          "[staged_copy]") {
  const std::vector<Bytes> sources = Sources(std::vector<size_t>(6, 4 * kStagingBytes));
  for (const size_t count : {1, 4}) {
    FakeDevice device{.targets = {}, .fail_at = 2};
    for (const Bytes& source : sources) device.targets.emplace_back(source.size());
    const auto lanes = Lanes(count, device);
    std::string failure;
    try {
      CopyInLanes(CopiesOf(sources, true), lanes, [](uint64_t) {});
    } catch (const std::runtime_error& error) {
      failure = error.what();
    }
    CHECK(failure == "the bus is gone");
    size_t busy = 0;
    for (const auto& lane : lanes) busy += static_cast<const LateLane&>(*lane).idle() ? 0 : 1;
    CHECK(busy <= 1);               // the one that failed
    CHECK(device.started < 6 * 4);  // the others have stopped
  }
}

TEST_CASE("what cannot be read fails like the device", "[staged_copy]") {
  FakeDevice device;
  device.targets.emplace_back(10);
  const std::vector<StagedCopy> copies{
      {10, []() -> HeldBytes { throw std::runtime_error("no memory"); }, false}};
  CHECK_THROWS_AS(CopyInLanes(copies, Lanes(2, device), [](uint64_t) {}), std::runtime_error);
  CHECK(device.started == 0);
}

}  // namespace
}  // namespace idefics
