// SPDX-License-Identifier: Apache-2.0
// The sum over the ranks of a divided model where each GPU can write into the others' memory: every
// rank sends its part into every rank's inbox, and adds what is in its own in the order of the
// ranks. One way over the wire, and the bits of the CPU's sum. Free of torch, so that threads can
// play the ranks under ThreadSanitizer (tests/kernels/peer_sum_test.cc).
//
// A block takes a slice of 4 KB, which has a place of its own in all inboxes and counts its sums by
// itself: blocks wait only for the same block of other ranks. Two places are used in turn. A rank
// may write to one again when all have begun the sum after the one that used it; that is what it
// has waited for in the sum between. The count is in memory, not among the arguments, so that a
// sum can be part of a CUDA graph. REQUIRES: every rank makes the same sums, one after another.
#pragma once

#include <cstdint>
#include <cstring>

#include "predictor/ops/cuda/host_device.h"

#ifndef __CUDACC__
#include <atomic>
#include <chrono>
#include <thread>
#endif

namespace idefics::IDEFICS_TARGET {

constexpr int kMaxPeers = 8;
constexpr int kPeerThreads = 256;
constexpr int kPeerPackBytes = 16;  // of a thread
constexpr int kSliceBytes = kPeerThreads * kPeerPackBytes;
constexpr int kMaxSlices = 64;  // of a sum

struct alignas(kPeerPackBytes) PeerPack {
  uint32_t words[kPeerPackBytes / 4];
};

// One rank's, in its device's memory; zeros at first.
struct PeerInbox {
  PeerPack parts[2][kMaxPeers][kMaxSlices][kPeerThreads];
  uint32_t arrived[kMaxPeers][kMaxSlices];  // the last sum for which a rank's slice is here
  uint32_t sums[kMaxSlices];                // that this rank has made; only its own block's
  uint32_t gave_up;                         // 1: a wait took longer than it may
};

struct PeerSum {
  const void* x;  // aligned as a pack
  void* out;
  int64_t packs;  // of x
  int rank, ranks;
  uint64_t patience_ns;           // of a wait; 0: as long as it takes
  PeerInbox* inboxes[kMaxPeers];  // by rank
};

#ifdef __CUDACC__

__device__ __forceinline__ void StoreRelease(uint32_t* to, uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}
__device__ __forceinline__ uint32_t LoadAcquire(const uint32_t* from) {
  uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}
__device__ __forceinline__ void FenceSystem() { __threadfence_system(); }
__device__ __forceinline__ uint64_t Nanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

#else

inline void StoreRelease(uint32_t* to, uint32_t value) {
  std::atomic_ref(*to).store(value, std::memory_order_release);
}
inline uint32_t LoadAcquire(uint32_t* from) {
  std::this_thread::yield();
  return std::atomic_ref(*from).load(std::memory_order_acquire);
}
inline void FenceSystem() {}  // the release is enough
inline uint64_t Nanoseconds() {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

#endif

// The four steps of a sum by thread `thread` of block `slice`, `sum` being one more than the block
// has made. Between two of them all of the block's threads wait for each other.

// Writes the thread's pack to all other ranks.
__device__ __forceinline__ void SendPart(const PeerSum& a, int slice, int thread, uint32_t sum) {
  const int64_t at = static_cast<int64_t>(slice) * kPeerThreads + thread;
  if (at >= a.packs) return;
  const PeerPack part = static_cast<const PeerPack*>(a.x)[at];
  for (int peer = 0; peer < a.ranks; ++peer) {
    if (peer != a.rank) a.inboxes[peer]->parts[sum % 2][a.rank][slice][thread] = part;
  }
}

// Thread p tells rank p that the slice is there.
__device__ __forceinline__ void Announce(const PeerSum& a, int slice, int thread, uint32_t sum) {
  if (thread >= a.ranks || thread == a.rank) return;
  FenceSystem();  // of what the block's other threads wrote, too
  StoreRelease(&a.inboxes[thread]->arrived[a.rank][slice], sum);
}

// Thread p waits for rank p's slice, which may be a sum ahead.
__device__ __forceinline__ void AwaitPart(const PeerSum& a, int slice, int thread, uint32_t sum) {
  if (thread >= a.ranks || thread == a.rank) return;
  PeerInbox& inbox = *a.inboxes[a.rank];
  const uint64_t begun = a.patience_ns > 0 ? Nanoseconds() : 0;
  while (static_cast<int32_t>(LoadAcquire(&inbox.arrived[thread][slice]) - sum) < 0) {
    if (a.patience_ns > 0 && Nanoseconds() - begun > a.patience_ns) {
      StoreRelease(&inbox.gave_up, 1);
      return;
    }
  }
}

// Adds the thread's pack of every rank in f32, in the order of the ranks, and rounds once.
template <typename T>
__device__ __forceinline__ void AddParts(const PeerSum& a, int slice, int thread, uint32_t sum) {
  constexpr int kCount = kPeerPackBytes / static_cast<int>(sizeof(T));
  const int64_t at = static_cast<int64_t>(slice) * kPeerThreads + thread;
  if (at >= a.packs) return;
  const auto& parts = a.inboxes[a.rank]->parts[sum % 2];
  float sums[kCount] = {};
  for (int peer = 0; peer < a.ranks; ++peer) {
    const PeerPack part =
        peer == a.rank ? static_cast<const PeerPack*>(a.x)[at] : parts[peer][slice][thread];
    T numbers[kCount];
    memcpy(numbers, &part, sizeof(part));
    for (int i = 0; i < kCount; ++i) {
      const auto number = static_cast<float>(numbers[i]);
      sums[i] = peer == 0 ? number : sums[i] + number;  // 0 + −0 would lose a sign
    }
  }
  T rounded[kCount];
  for (int i = 0; i < kCount; ++i) rounded[i] = static_cast<T>(sums[i]);
  memcpy(static_cast<PeerPack*>(a.out) + at, rounded, sizeof(rounded));
}

#ifdef __CUDACC__

template <typename T>
__global__ void __launch_bounds__(kPeerThreads) PeerSumKernel(PeerSum a) {
  const int slice = static_cast<int>(blockIdx.x);
  const int thread = static_cast<int>(threadIdx.x);
  uint32_t& sums = a.inboxes[a.rank]->sums[slice];
  const uint32_t sum = sums + 1;
  SendPart(a, slice, thread, sum);
  __syncthreads();
  Announce(a, slice, thread, sum);
  AwaitPart(a, slice, thread, sum);
  __syncthreads();  // also: all have read the count
  AddParts<T>(a, slice, thread, sum);
  if (thread == 0) sums = sum;
}

#endif

}  // namespace idefics::IDEFICS_TARGET
