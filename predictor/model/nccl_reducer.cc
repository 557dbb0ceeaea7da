// SPDX-License-Identifier: Apache-2.0
#include <ATen/ops/empty_like.h>
#include <torch/csrc/cuda/nccl.h>

#include "predictor/model/reducers.h"
#include "predictor/model/torch_device.h"

namespace idefics {
namespace {

namespace nccl = torch::cuda::nccl;

class NcclReducer : public Reducer {
 public:
  NcclReducer(const nccl::ncclUniqueId& id, int ranks, int rank)
      : communicator_(nccl::comm_init_rank(ranks, id, rank)) {}
  ~NcclReducer() override { nccl::comm_destroy(communicator_); }

  at::Tensor Sum(const at::Tensor& x) override {
    std::vector<at::Tensor> sums{at::empty_like(x)};
    nccl::all_reduce({x}, sums, static_cast<int32_t>(nccl::ncclRedOp::Sum), {}, {communicator_});
    return sums.front();
  }

 private:
  const nccl::ncclComm_t communicator_;
};

}  // namespace

Result<std::unique_ptr<Reducer>> MakeNcclReducer(RankGroup* group, int rank) {
  nccl::ncclUniqueId id;
  if (rank == 0) {
    RETURN_IF_ERROR(CatchTorch("starting NCCL", [&] { nccl::get_unique_id(id); }));
  }
  ASSIGN_OR_RETURN(const auto ids, group->Meet(rank, &id));
  const nccl::ncclUniqueId shared = *static_cast<const nccl::ncclUniqueId*>(ids[0]);
  RETURN_IF_ERROR(group->Meet(rank, nullptr).status());  // all have read it
  std::unique_ptr<Reducer> reducer;
  RETURN_IF_ERROR(CatchTorch("joining the ranks by NCCL", [&] {
    reducer = std::make_unique<NcclReducer>(shared, group->ranks(), rank);
  }));
  return reducer;
}

}  // namespace idefics
