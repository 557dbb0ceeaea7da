// SPDX-License-Identifier: Apache-2.0
// The sums of idefics::all_reduce (predictor/ops/all_reduce.h): of CPU ranks in their memory, of
// GPUs by what each writes to the others, and by NCCL.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "common/status.h"
#include "predictor/model/rank_group.h"
#include "predictor/model/rank_runner.h"
#include "predictor/ops/all_reduce.h"

namespace idefics {

// A rank's, for its device; null where there is no group. All ranks call it, each on its thread.
Result<std::unique_ptr<Reducer>> MakeReducer(const RankPlace& place, at::Device device);

// Adds in f32 in the order of the ranks and rounds once. `group` must live longer.
std::unique_ptr<Reducer> MakeCpuReducer(RankGroup* group, int rank);

#ifdef IDEFICS_WITH_CUDA
// Joins the ranks' communicator. Sums run on the current stream and can be captured in a CUDA
// graph. REQUIRES: the rank's device is current.
Result<std::unique_ptr<Reducer>> MakeNcclReducer(RankGroup* group, int rank);

// Makes small sums by writing into the other GPUs' memory (predictor/ops/cuda/peer_sum.cuh), in the
// order of the ranks, and gives the rest to `others`. That one alone is the result where a GPU does
// not reach all others, or where some sums made for trial are wrong or do not end. REQUIRES: the
// rank's device is current.
Result<std::unique_ptr<Reducer>> MakePeerReducer(RankGroup* group, int rank, at::Device device,
                                                 std::unique_ptr<Reducer> others);
#endif

}  // namespace idefics
