// SPDX-License-Identifier: Apache-2.0
// Runs a CUDA grid on the host, for tests: blocks one after another, each thread of a block a fiber
// that runs until its next barrier or shuffle. Not thread safe: one grid at a time.
#pragma once

#include <cstddef>
#include <cstring>
#include <functional>

namespace idefics::host_cuda {

struct dim3 {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
};

// Indices of the running fiber, as in CUDA. Valid inside RunBlocks only.
inline dim3 threadIdx;
inline dim3 blockIdx;
inline dim3 blockDim;
inline dim3 gridDim;

// The order in which the threads between two barriers, and the blocks, take their turns. A correct
// kernel computes the same bits in both.
enum class TurnOrder { kForward, kBackward };
inline TurnOrder turn_order = TurnOrder::kForward;

// Calls kernel() once per thread of every block. `threads` per block: a multiple of 32, at most
// 1024. Throws std::logic_error if some threads of a block (or warp) wait at a barrier (or shuffle)
// that the others never reach.
void RunBlocks(dim3 grid, unsigned threads, const std::function<void()>& kernel);

void __syncthreads();
void __syncwarp();

// The value before. Nothing else runs between two turns of fibers.
template <typename T>
T atomicAdd(T* address, T value) {
  const T before = *address;
  *address = before + value;
  return before;
}

template <typename T>
T atomicOr(T* address, T value) {
  const T before = *address;
  *address = before | value;
  return before;
}

// As cp.async, of 16 bytes: a copy is made no sooner than when its thread waits for it.
void CopyLater(void* to, const void* from);
// Ends a group of copies.
void CommitCopies();
// Makes the copies of all groups but the last `but`.
void WaitForCopies(size_t but);

// The running warp's exchange place of a lane; all lanes wait for each other at WarpBarrier.
void* WarpPlace(unsigned lane);
void WarpBarrier();

// All 32 lanes must take part.
template <typename T>
T __shfl_xor_sync(unsigned /*mask*/, T value, int lane_mask) {
  static_assert(sizeof(T) <= 8);
  const unsigned lane = threadIdx.x % 32;
  std::memcpy(WarpPlace(lane), &value, sizeof(T));
  WarpBarrier();
  T other;
  std::memcpy(&other, WarpPlace(lane ^ static_cast<unsigned>(lane_mask)), sizeof(T));
  WarpBarrier();  // nobody overwrites a place before all have read
  return other;
}

}  // namespace idefics::host_cuda
