// SPDX-License-Identifier: Apache-2.0
// Starts the kernel of peer_sum.cuh, for sources that nvcc does not compile.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace idefics::cuda {

// Of a rank's inbox.
int64_t PeerInboxBytes();

// Whether a sum of x among `ranks` is made by peer_sum.cuh: it is in whole packs, has no more bytes
// than an inbox holds, and sending it to all of them takes less time than NCCL's start.
bool TakesPeerSum(const at::Tensor& x, int ranks);

// This rank's part of the sum of x over the ranks, on the current stream. inboxes: by rank, on
// their devices, which this one can write to; zeros before the first sum. patience_ns: of a wait
// for a rank, after which the sum is wrong and PeerSumGaveUp true; 0: as long as it takes.
// REQUIRES: TakesPeerSum(x, inboxes.size()); x is alike on all ranks, and all make the same sums in
// one order.
at::Tensor AddOverPeers(const at::Tensor& x, const std::vector<void*>& inboxes, int rank,
                        uint64_t patience_ns);

// Waits for the device. inbox: a tensor of PeerInboxBytes.
bool PeerSumGaveUp(const at::Tensor& inbox);

}  // namespace idefics::cuda
