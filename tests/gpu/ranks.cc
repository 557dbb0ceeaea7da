// SPDX-License-Identifier: Apache-2.0
// The sums of several GPUs, a thread for each: by what they write into each other's memory and by
// NCCL. Nothing with one GPU.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "predictor/model/reducers.h"
#include "predictor/ops/cuda/peer_sum_launch.h"
#include "tests/gpu/gpu_checks.h"

namespace idefics::test {
namespace {

constexpr int kMostRanks = 8;
constexpr int kTurns = 40;

// Of one rank.
struct Rank {
  int index, count;
  RankGroup* group;
  std::unique_ptr<Reducer> nccl;   // alone
  std::unique_ptr<Reducer> peers;  // with another NCCL for the rest
};

at::Tensor Part(int rank, int turn, at::IntArrayRef shape) {
  at::manual_seed(static_cast<uint64_t>(100 * turn + rank));
  return at::randn(shape).to(at::kBFloat16);
}

// As CPU ranks add (predictor/model/cpu_reducer.cc).
at::Tensor SumInOrder(int ranks, int turn, at::IntArrayRef shape) {
  at::Tensor sum = Part(0, turn, shape).to(at::kFloat);
  for (int rank = 1; rank < ranks; ++rank) sum.add_(Part(rank, turn, shape));
  return sum.to(at::kBFloat16);
}

std::vector<int64_t> ShapeOf(int turn) {
  const int64_t rows = turn % 4 == 0 ? 1 : turn % 4 == 1 ? 5 : turn % 4 == 2 ? 2 : 64;
  return {rows, 4096};
}

// The numbers are made by one rank at a time: the generator is the process's.
std::vector<at::Tensor> Given(const Rank& rank) {
  std::vector<at::Tensor> given;
  for (int turn = 0; turn < kTurns; ++turn) {
    given.push_back(Part(rank.index, turn, ShapeOf(turn)).to(at::kCUDA));
  }
  return given;
}

// [kTurns] sums, each as soon as the one before.
std::vector<at::Tensor> Sums(const Rank& rank, const std::vector<at::Tensor>& given) {
  std::vector<at::Tensor> sums;
  for (const at::Tensor& x : given) sums.push_back(rank.peers->Sum(x));
  at::cuda::getCurrentCUDAStream().synchronize();
  return sums;
}

// A sum captured once and replayed with other numbers.
at::Tensor ReplayedSum(const Rank& rank, const std::vector<at::Tensor>& given) {
  const c10::cuda::CUDAStreamGuard stream(c10::cuda::getStreamFromPool());
  const at::Tensor x = at::zeros_like(given[0]);
  rank.peers->Sum(x);
  at::cuda::getCurrentCUDAStream().synchronize();
  at::cuda::CUDAGraph graph;
  graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
  const at::Tensor sum = rank.peers->Sum(x);
  graph.capture_end();
  for (int turn = 0; turn < kTurns; turn += 4) {
    x.copy_(given[static_cast<size_t>(turn)]);
    graph.replay();
  }
  at::cuda::getCurrentCUDAStream().synchronize();
  return sum.clone();
}

// Microseconds of a sum of `rows` rows of the 80b, of several in one graph.
double SumMicroseconds(Reducer& reducer, int64_t rows) {
  const at::Tensor x = at::zeros({rows, 8192}, at::TensorOptions(at::kCUDA).dtype(at::kBFloat16));
  return Microseconds(100, [&](int) { reducer.Sum(x); });
}

// Runs job(rank) on a thread and a GPU for each rank; false where reducers cannot be made.
bool OnRanks(int count, const std::function<void(Rank&)>& job) {
  RankGroup group(count, std::chrono::seconds(60));
  std::vector<char> made(static_cast<size_t>(count));
  std::vector<std::thread> threads;
  for (int index = 0; index < count; ++index) {
    threads.emplace_back([&, index] {
      const c10::InferenceMode inference;
      const at::Device device(at::kCUDA, static_cast<at::DeviceIndex>(index));
      const c10::cuda::CUDAGuard guard(device);
      auto nccl = MakeNcclReducer(&group, index);
      auto rest = MakeNcclReducer(&group, index);
      if (!nccl.ok() || !rest.ok()) return;
      auto peers = MakePeerReducer(&group, index, device, std::move(rest).value());
      if (!peers.ok()) return;
      Rank rank{index, count, &group, std::move(nccl).value(), std::move(peers).value()};
      made[static_cast<size_t>(index)] = 1;
      job(rank);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return std::ranges::find(made, 0) == made.end();
}

int Ranks() { return std::min<int>(at::cuda::device_count(), kMostRanks); }

}  // namespace

void CompareRanks() {
  if (Ranks() < 2) return;
  std::vector<std::vector<at::Tensor>> sums(static_cast<size_t>(Ranks()));
  std::vector<at::Tensor> replayed(sums.size());
  const bool made = OnRanks(Ranks(), [&](Rank& rank) {
    std::vector<at::Tensor> given;
    for (int turn = 0; turn < rank.count; ++turn) {
      if (turn == rank.index) given = Given(rank);
      if (!rank.group->Meet(rank.index, nullptr).ok()) return;
    }
    const auto at = static_cast<size_t>(rank.index);
    sums[at] = Sums(rank, given);
    replayed[at] = ReplayedSum(rank, given);
  });
  Expect(made, "ranks can add by NCCL, and by peers or not");
  if (!made) return;
  for (size_t rank = 0; rank < sums.size(); ++rank) {
    const std::string where = "sums of rank " + std::to_string(rank) + ", turn ";
    for (int turn = 0; turn < kTurns; ++turn) {
      const at::Tensor mine = sums[rank][static_cast<size_t>(turn)].to(at::kCPU);
      const at::Tensor truth = SumInOrder(Ranks(), turn, ShapeOf(turn));
      ExpectClose(where + std::to_string(turn), mine, truth, 4);
      // What NCCL adds has an order of its own.
      if (cuda::TakesPeerSum(sums[rank][static_cast<size_t>(turn)], Ranks())) {
        ExpectEqual(where + std::to_string(turn) + ", in the order of the ranks", mine, truth);
      }
    }
    ExpectEqual("a replayed sum of rank " + std::to_string(rank), replayed[rank].to(at::kCPU),
                SumInOrder(Ranks(), kTurns - 4, ShapeOf(0)));
  }
}

void TimeRanks() {
  if (Ranks() < 2) return;
  OnRanks(Ranks(), [&](Rank& rank) {
    for (const int64_t rows : {1, 4, 16, 64}) {
      const double by_nccl = SumMicroseconds(*rank.nccl, rows);
      const double by_peers = SumMicroseconds(*rank.peers, rows);
      if (rank.index > 0) continue;
      std::printf("sum of %ld rows of the 80b over %d GPUs: peers %.1f us, NCCL %.1f us\n",
                  static_cast<long>(rows), rank.count, by_peers, by_nccl);
    }
  });
}

}  // namespace idefics::test
