// SPDX-License-Identifier: Apache-2.0
#include <c10/core/DeviceGuard.h>

#include <utility>

#include "predictor/model/reducers.h"

namespace idefics {
namespace {

class CpuReducer : public Reducer {
 public:
  CpuReducer(RankGroup* group, int rank) : group_(group), rank_(rank) {}

  at::Tensor Sum(const at::Tensor& x) override {
    const std::span<const void* const> parts = Meet(&x);
    at::Tensor sum = PartOf(parts[0]).to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
    for (size_t rank = 1; rank < parts.size(); ++rank) sum.add_(PartOf(parts[rank]));
    Meet(nullptr);  // all have read x
    return sum.to(x.scalar_type());
  }

 private:
  static const at::Tensor& PartOf(const void* part) {
    return *static_cast<const at::Tensor*>(part);
  }

  std::span<const void* const> Meet(const void* brought) {
    const auto met = group_->Meet(rank_, brought);
    TORCH_CHECK(met.ok(), met.status().message());
    return *met;
  }

  RankGroup* const group_;
  const int rank_;
};

}  // namespace

Result<std::unique_ptr<Reducer>> MakeReducer(const RankPlace& place, at::Device device) {
  if (place.group == nullptr) return std::unique_ptr<Reducer>();
#ifdef IDEFICS_WITH_CUDA
  if (device.is_cuda()) {
    const c10::DeviceGuard guard(device);
    ASSIGN_OR_RETURN(auto nccl, MakeNcclReducer(place.group, place.rank.index));
    return MakePeerReducer(place.group, place.rank.index, device, std::move(nccl));
  }
#endif
  if (!device.is_cpu()) {
    return Status::InvalidInput(
        "--tensor-parallel on GPUs needs a program with CUDA's operators (scripts/build.sh cuda)");
  }
  return MakeCpuReducer(place.group, place.rank.index);
}

std::unique_ptr<Reducer> MakeCpuReducer(RankGroup* group, int rank) {
  return std::make_unique<CpuReducer>(group, rank);
}

}  // namespace idefics
