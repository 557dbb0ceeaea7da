// SPDX-License-Identifier: Apache-2.0
// From a bundle and flags to a runner: what the library is asked for (torch_runner.h).
#include <c10/core/Device.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "common/log.h"
#include "predictor/model/arena_size.h"
#include "predictor/model/cuda_weights.h"
#include "predictor/model/parallel_runner.h"
#include "predictor/model/rank_runner.h"
#include "predictor/model/thread_autotune.h"
#include "predictor/model/torch_device.h"
#include "predictor/model/torch_runner.h"
#include "predictor/ops/cpu/instruction_sets.h"
#include "predictor/ops/operators.h"
#include "weights/huge_pages.h"

namespace idefics {
namespace {

// ", avx2 kernels (the best that this CPU has)". REQUIRES: CheckKernels() was ok.
std::string Kernels() {
  const InstructionSetChoice choice = ChooseInstructionSet();
  return std::string(", ") + choice.set->name + " kernels (" + choice.why + ")";
}

Status CheckKernels() {
  InstructionSetChoice choice = ChooseInstructionSet();
  return choice.set != nullptr ? Status::Ok() : Status::InvalidInput(std::move(choice.why));
}

Status CheckFp8(const BundleManifest& manifest, at::Device device) {
  if (manifest.quantization != "none" || manifest.dtype == DType::kF32) {
    const std::string has = manifest.quantization == "none" ? "f32" : manifest.quantization;
    return Status::InvalidInput(
        "--weights fp8 is made from a bundle in bf16 or f16, this one has " + has +
        ": leave the flag out, or export the checkpoint with --weights bf16");
  }
  bool has_fp8 = false;
  RETURN_IF_ERROR(CatchTorch("asking for fp8", [&] { has_fp8 = DeviceSupportsFp8(device); }));
  if (has_fp8) return Status::Ok();
  return Status::InvalidInput("--weights fp8 needs a GPU of compute capability 8.9 or more, not " +
                              device.str() +
                              ": leave the flag out, or export the checkpoint with --weights int8");
}

// All of one type, and GPUs distinct.
Status CheckDevices(const std::vector<at::Device>& devices, const std::string& names) {
  for (auto device = devices.begin(); device != devices.end(); ++device) {
    if (device->type() != devices.front().type()) {
      return Status::InvalidInput("--device is " + names +
                                  ": they must all be GPUs, or all the CPU");
    }
    if (device->is_cpu() || std::find(devices.begin(), device, *device) == device) continue;
    return Status::InvalidInput("--device is " + names + ": it names " + device->str() + " twice");
  }
  return Status::Ok();
}

// "cuda:0,cuda:1" has one device for each rank; "cuda" is the first ones, "cpu" is all of them. Of
// one rank there may be several, for its layers.
Result<std::vector<at::Device>> ChooseDevices(const TorchRunnerOptions& options) {
  std::vector<at::Device> devices;
  std::istringstream names(options.device);
  for (std::string name; std::getline(names, name, ',');) {
    ASSIGN_OR_RETURN(const at::Device device, ChooseDevice(name));
    devices.push_back(device);
  }
  RETURN_IF_ERROR(CheckDevices(devices, options.device));
  const auto ranks = static_cast<size_t>(options.tensor_parallel);
  if (devices.size() == 1 && ranks > 1) {
    const at::Device first = devices.front();
    for (size_t rank = 1; rank < ranks; ++rank) {
      const auto index = static_cast<at::DeviceIndex>(static_cast<size_t>(first.index()) + rank);
      devices.push_back(first.is_cpu() ? first : at::Device(first.type(), index));
    }
  }
  if (ranks == 1 || devices.size() == ranks) return devices;
  return Status::InvalidInput("--device names " + std::to_string(devices.size()) +
                              " devices and --tensor-parallel is " + std::to_string(ranks) +
                              ": give one device for each rank, or one alone; without "
                              "--tensor-parallel they divide the layers");
}

// Smaller ones are soon read, or in the caches.
constexpr uint64_t kLeastOnHugePages = uint64_t{256} << 20;

bool TakesHugePages(const Bundle& bundle, std::optional<bool> asked) {
  if (asked.has_value() && !*asked) return false;
  if (!HasHugePages()) {
    if (asked) {
      Log(LogLevel::kWarning,
          "--huge-pages true, but this system has none: the weights stay on the pages of their "
          "file; /sys/kernel/mm/transparent_hugepage/enabled would have to say madvise or always");
    }
    return false;
  }
  const uint64_t bytes = bundle.weight_bytes();
  return asked || (bytes >= kLeastOnHugePages && bytes <= FreeHostBytes() / 2);
}

Result<std::unique_ptr<ModelRunner>> MakeAlone(const Bundle& bundle,
                                               const TorchRunnerOptions& options,
                                               const std::vector<at::Device>& devices,
                                               std::string* description) {
  ASSIGN_OR_RETURN(auto runner, LoadRankRunner(bundle, devices, options, {}, description));
  if (devices.front().is_cpu()) *description += Kernels();
  return runner;
}

Result<std::unique_ptr<ModelRunner>> MakeRanks(const Bundle& bundle,
                                               const TorchRunnerOptions& options,
                                               const std::vector<at::Device>& devices,
                                               std::string* description) {
  RETURN_IF_ERROR(CheckRanks(bundle.manifest(), options.tensor_parallel));
  const auto group = std::make_shared<RankGroup>(options.tensor_parallel, options.rank_timeout);
  // The copies live as long as a rank that is lost.
  const auto shared_bundle = std::make_shared<const Bundle>(bundle);
  const auto descriptions = std::make_shared<std::vector<std::string>>(devices.size());
  ASSIGN_OR_RETURN(auto runner, ParallelRunner::Make(group, [=](int index) {
                     const RankPlace place{{index, options.tensor_parallel}, group.get()};
                     const auto at = static_cast<size_t>(index);
                     return LoadRankRunner(*shared_bundle, {devices[at]}, options, place,
                                           &(*descriptions)[at]);
                   }));
  *description = std::to_string(devices.size()) + " ranks";
  for (size_t rank = 0; rank < devices.size(); ++rank) {
    *description += "; rank " + std::to_string(rank) + " on " + (*descriptions)[rank];
  }
  return runner;
}

Result<std::unique_ptr<ModelRunner>> Make(const Bundle& bundle, TorchRunnerOptions options,
                                          std::string* description) {
  UseOperators();
  if (!options.custom_ops) UseReferenceOperators();
  ASSIGN_OR_RETURN(const std::vector<at::Device> devices, ChooseDevices(options));
  const bool on_cpu = devices.front().is_cpu();
  if (on_cpu) RETURN_IF_ERROR(CheckKernels());
  if (options.weights == DecoderWeights::kFp8) {
    for (const at::Device device : devices) {
      RETURN_IF_ERROR(CheckFp8(bundle.manifest(), device));
    }
  }
  if (on_cpu && options.num_threads == 0) options.num_threads = AutotuneThreads();
  const bool one_rank = options.tensor_parallel == 1;
  options.huge_pages = on_cpu && one_rank && TakesHugePages(bundle, options.huge_pages);
  // Each rank would choose its own tokens, and the last stage tokens that the first one needs: the
  // host chooses for all.
  if (devices.size() > 1) options.async_scheduling = AsyncScheduling::kOff;
  if (one_rank) return MakeAlone(bundle, options, devices, description);
  options.num_threads = std::max(1, options.num_threads / options.tensor_parallel);
  return MakeRanks(bundle, options, devices, description);
}

}  // namespace
}  // namespace idefics

// Looked up by name (torch_runner.h).
extern "C" __attribute__((visibility("default"))) void IdeficsMakeTorchRunner(
    const idefics::Bundle& bundle, const idefics::TorchRunnerOptions& options,
    idefics::LogFunction log, idefics::MadeTorchRunner* made) {
  idefics::LogThrough(log);
  auto runner = idefics::Make(bundle, options, &made->description);
  made->status = runner.status();
  if (runner.ok()) made->runner = std::move(runner).value();
}
