// SPDX-License-Identifier: Apache-2.0
// A CUDA emulator for tests: runs a grid on the host, one block after another, with a fiber for
// each thread of a block that runs until its next barrier or shuffle. Not thread safe: one grid at
// a time.
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

// The order in which blocks run, and threads between two barriers. A correct kernel computes the
// same bits in both.
enum class ScheduleOrder { kForward, kBackward };
inline ScheduleOrder schedule_order = ScheduleOrder::kForward;

// Calls kernel() once for each thread of every block. `threads` per block: a multiple of 32, at
// most 1024. Throws std::logic_error where threads wait at a barrier or shuffle that others never
// reach.
void RunBlocks(dim3 grid, unsigned threads, const std::function<void()>& kernel);

void __syncthreads();
void __syncwarp();

// Returns the value before. No other fiber runs until this one reaches a barrier.
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

// cp.async of 16 bytes. A copy is made as late as possible: when its thread waits for it.
void CopyAsync(void* to, const void* from);
// Ends a group of copies.
void CommitAsyncCopies();
// Makes the copies of all groups but the last `but` ones.
void WaitForAsyncCopies(size_t but);

// Where a lane of the running warp stores what others read; all lanes wait at WarpBarrier.
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
  WarpBarrier();  // all have read before a place is overwritten
  return other;
}

}  // namespace idefics::host_cuda
