// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/cuda/cuda_emulator.h"

#include <catch2/catch_test_macros.hpp>
#include <stdexcept>
#include <vector>

namespace idefics::host_cuda {
namespace {

// Mirrors 64 numbers through memory shared by the block, with or without a barrier in between.
std::vector<unsigned> Mirror(bool barrier, ScheduleOrder order) {
  std::vector<unsigned> shared(64), out(64);
  schedule_order = order;
  RunBlocks({}, 64, [&] {
    shared[threadIdx.x] = threadIdx.x + 1;
    if (barrier) __syncthreads();
    out[threadIdx.x] = shared[63 - threadIdx.x];
  });
  schedule_order = ScheduleOrder::kForward;
  return out;
}

TEST_CASE("every thread of every block runs once with its own indices", "[cuda_emulator]") {
  std::vector<int> runs(3 * 2 * 2 * 64);
  RunBlocks({3, 2, 2}, 64, [&] {
    REQUIRE(blockDim.x == 64);
    REQUIRE(gridDim.y == 2);
    ++runs[((blockIdx.z * 2 + blockIdx.y) * 3 + blockIdx.x) * 64 + threadIdx.x];
  });
  CHECK(runs == std::vector<int>(3 * 2 * 2 * 64, 1));
}

TEST_CASE("a barrier lets threads see what all others wrote, in either order", "[cuda_emulator]") {
  std::vector<unsigned> mirrored;
  for (unsigned i = 64; i > 0; --i) mirrored.push_back(i);
  CHECK(Mirror(true, ScheduleOrder::kForward) == mirrored);
  CHECK(Mirror(true, ScheduleOrder::kBackward) == mirrored);
}

TEST_CASE("a missing barrier shows as a difference between the two orders", "[cuda_emulator]") {
  CHECK(Mirror(false, ScheduleOrder::kForward) != Mirror(false, ScheduleOrder::kBackward));
}

TEST_CASE("a shuffle exchanges values inside a warp only", "[cuda_emulator]") {
  std::vector<float> sums(96);
  RunBlocks({}, 96, [&] {
    auto value = static_cast<float>(threadIdx.x);
    for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(~0u, value, mask);
    sums[threadIdx.x] = value;
  });
  for (unsigned i = 0; i < 96; ++i) CHECK(sums[i] == 496.0f + 1024.0f * static_cast<float>(i / 32));
}

TEST_CASE("atomics change a number and give the one before", "[cuda_emulator]") {
  for (const ScheduleOrder order : {ScheduleOrder::kForward, ScheduleOrder::kBackward}) {
    schedule_order = order;
    unsigned sum = 0, bits = 0;
    std::vector<unsigned> ranks(64), firsts(8);
    RunBlocks({}, 64, [&] {
      ++ranks[atomicAdd(&sum, 1u)];
      const unsigned bit = 1u << (threadIdx.x % 8);
      if ((atomicOr(&bits, bit) & bit) == 0) ++firsts[threadIdx.x % 8];
    });
    schedule_order = ScheduleOrder::kForward;
    CHECK(sum == 64);
    CHECK(bits == 0xff);
    CHECK(ranks == std::vector<unsigned>(64, 1));
    CHECK(firsts == std::vector<unsigned>(8, 1));
  }
}

TEST_CASE("a copy arrives when its thread waits for its group, and no sooner", "[cuda_emulator]") {
  const std::vector<unsigned> from{1, 2, 3, 4, 5, 6, 7, 8};
  RunBlocks({}, 32, [&] {
    std::vector<unsigned> to(8);
    CopyAsync(&to[0], &from[0]);
    CommitAsyncCopies();
    CopyAsync(&to[4], &from[4]);
    CommitAsyncCopies();
    CommitAsyncCopies();  // empty
    REQUIRE(to == std::vector<unsigned>(8));
    WaitForAsyncCopies(2);
    REQUIRE(to == std::vector<unsigned>{1, 2, 3, 4, 0, 0, 0, 0});
    WaitForAsyncCopies(1);
    REQUIRE(to == from);
  });
}

TEST_CASE("a barrier that some threads never reach is an error", "[cuda_emulator]") {
  CHECK_THROWS_AS(RunBlocks({}, 64,
                            [] {
                              if (threadIdx.x != 5) __syncthreads();
                            }),
                  std::logic_error);
  CHECK_THROWS_AS(RunBlocks({}, 33, [] {}), std::logic_error);
}

}  // namespace
}  // namespace idefics::host_cuda
