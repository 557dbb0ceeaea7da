// SPDX-License-Identifier: Apache-2.0
#include <ATen/cuda/PeerToPeerAccess.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAFunctions.h>

#include <utility>
#include <vector>

#include "predictor/model/reducers.h"
#include "predictor/model/torch_device.h"
#include "predictor/ops/cuda/peer_sum_launch.h"

namespace idefics {
namespace {

// Of a wait in the sums that try the way.
constexpr uint64_t kTrialPatienceNs = 2'000'000'000;

class PeerReducer : public Reducer {
 public:
  PeerReducer(at::Tensor inbox, std::vector<void*> inboxes, int rank,
              std::unique_ptr<Reducer> others)
      : inbox_(std::move(inbox)),
        inboxes_(std::move(inboxes)),
        rank_(rank),
        others_(std::move(others)) {}

  at::Tensor Sum(const at::Tensor& x) override {
    if (!cuda::TakesPeerSum(x, ranks())) return others_->Sum(x);
    return cuda::AddOverPeers(x, inboxes_, rank_, /*patience_ns=*/0);
  }

  // Whether sums of one slice, of several and of a part of one come out right, time after time.
  // Waits for the device.
  bool Try() const {
    bool right = true;
    for (int turn = 0; turn < 24; ++turn) {
      const int64_t numbers = turn % 3 == 0 ? 4096 : turn % 3 == 1 ? 8 : 5000;
      const at::Tensor part =
          at::arange(numbers, at::TensorOptions(inbox_.device()).dtype(at::kFloat))
              .add(turn)
              .remainder(7);
      const at::Tensor x = part.mul(rank_ + 1).to(at::kBFloat16);
      const at::Tensor sum = cuda::AddOverPeers(x, inboxes_, rank_, kTrialPatienceNs);
      // At most 6 · 36: bf16 holds it exactly.
      right = right && sum.to(at::kFloat).equal(part.mul(ranks() * (ranks() + 1) / 2));
      if (cuda::PeerSumGaveUp(inbox_)) return false;
    }
    return right;
  }

  std::unique_ptr<Reducer> TakeOthers() { return std::move(others_); }

 private:
  int ranks() const { return static_cast<int>(inboxes_.size()); }

  const at::Tensor inbox_;            // [PeerInboxBytes] u8
  const std::vector<void*> inboxes_;  // by rank
  const int rank_;
  std::unique_ptr<Reducer> others_;  // for what these sums do not take
};

// What each rank brings, by rank. Value: copied.
template <typename Value>
Result<std::vector<Value>> Exchange(RankGroup* group, int rank, const Value& mine) {
  ASSIGN_OR_RETURN(const auto brought, group->Meet(rank, &mine));
  std::vector<Value> all;
  for (const void* value : brought) all.push_back(*static_cast<const Value*>(value));
  RETURN_IF_ERROR(group->Meet(rank, nullptr).status());  // all have read `mine`
  return all;
}

bool ReachesAll(at::Device device, const std::vector<at::Device>& devices) {
  for (const at::Device other : devices) {
    if (other != device && !at::cuda::get_p2p_access(device.index(), other.index())) return false;
  }
  return true;
}

}  // namespace

Result<std::unique_ptr<Reducer>> MakePeerReducer(RankGroup* group, int rank, at::Device device,
                                                 std::unique_ptr<Reducer> others) {
  ASSIGN_OR_RETURN(const std::vector<at::Device> devices, Exchange(group, rank, device));
  bool reaches = false;
  at::Tensor inbox;
  RETURN_IF_ERROR(CatchTorch("asking which GPUs reach each other", [&] {
    reaches = ReachesAll(device, devices);
    inbox = at::zeros({cuda::PeerInboxBytes()}, at::TensorOptions(at::kByte).device(device));
    c10::cuda::device_synchronize();  // the others write into it from now on
  }));
  ASSIGN_OR_RETURN(const int64_t all_reach, group->Least(rank, reaches ? 1 : 0));
  if (all_reach == 0) return others;
  ASSIGN_OR_RETURN(std::vector<void*> inboxes, Exchange(group, rank, inbox.data_ptr()));
  auto peers = std::make_unique<PeerReducer>(inbox, std::move(inboxes), rank, std::move(others));
  bool right = false;
  RETURN_IF_ERROR(CatchTorch("trying sums over peers", [&] { right = peers->Try(); }));
  ASSIGN_OR_RETURN(const int64_t all_right, group->Least(rank, right ? 1 : 0));
  if (all_right == 1) return std::unique_ptr<Reducer>(std::move(peers));
  if (rank == 0) {
    TORCH_WARN("the GPUs can write into each other's memory, but sums made so came out wrong or ",
               "late: all sums go through NCCL, which is slower for a few rows");
  }
  return peers->TakeOthers();
}

}  // namespace idefics
