// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/torch_runner.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <dlfcn.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/cuda.h>
#include <torch/script.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "common/check.h"
#include "predictor/model/arena_size.h"
#include "predictor/model/cuda_graphs.h"
#include "predictor/model/cuda_weights.h"
#include "predictor/model/step_indices.h"
#include "predictor/model/thread_probe.h"
#include "predictor/ops/operators.h"
#include "weights/module_loader.h"

namespace idefics {
namespace {

torch::ScalarType ActivationType(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return torch::kBFloat16;
    case DType::kF16:
      return torch::kFloat16;
    default:
      return torch::kFloat32;
  }
}

// Of a picture: one takes about as long as a decode step of the 9b model.
constexpr int32_t kImagePartsOnCpu = 8;
// Prompt tokens that make a decode step of the 9b model in int8 about half as long again.
constexpr int32_t kJoiningTokensOnCpu = 16;

// Runs `body` and turns what libtorch throws into a Status.
template <typename Body>
Status CatchTorch(const char* what, const Body& body) {
  try {
    const c10::InferenceMode inference;
    body();
    return Status::Ok();
  } catch (const c10::OutOfMemoryError& error) {
    return Status(ErrorCode::kOutOfMemory,
                  std::string(what) + ": out of device memory: " + error.what_without_backtrace());
  } catch (const c10::Error& error) {
    return Status::Internal(std::string(what) + ": " + error.what_without_backtrace());
  } catch (const std::exception& error) {
    return Status::Internal(std::string(what) + ": " + error.what());
  }
}

// libtorch's CUDA kernels register themselves when their library is loaded, which no symbol asks
// for. Without a driver, or where the library is not to be had, there is no CUDA device.
void LoadTorchCuda() {
  if (access("/proc/driver/nvidia/version", F_OK) != 0) return;
  dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL);
}

// Before anything asks libtorch for CUDA: it remembers the answer.
Result<torch::Device> ChooseDevice(const std::string& name) {
  if (name == "auto" || name.starts_with("cuda")) LoadTorchCuda();
  if (name == "auto") return torch::cuda::is_available() ? torch::Device("cuda") : torch::kCPU;
  try {
    const torch::Device device(name);
    if (device.is_cuda() && !torch::cuda::is_available()) {
      return Status::InvalidInput("--device is " + name +
                                  ", but no CUDA device can be used here: use cpu or auto");
    }
    return device;
  } catch (const c10::Error&) {
    return Status::InvalidInput("--device is '" + name + "', it must be auto, cpu, cuda or cuda:N");
  }
}

class TorchRunner : public ModelRunner {
 public:
  TorchRunner(const BundleManifest& manifest, torch::Device device,
              const TorchRunnerOptions& options)
      : device_(device),
        num_threads_(device.is_cpu() && options.num_threads == 0 ? ProbeThreads()
                                                                 : options.num_threads),
        use_graphs_(device.is_cuda() && options.graphs && options.fused) {
    limits_.vocab_size = static_cast<int32_t>(manifest.model.total_vocab_size());
    limits_.kv_tokens = options.kv_tokens;
    most_tokens_ = options.most_tokens;
    limits_.image_entries = options.image_entries;
    limits_.image_size = static_cast<int32_t>(manifest.model.vision.image_size);
    limits_.max_rows_per_step = options.max_rows;
    if (device.is_cpu()) {
      limits_.image_parts = kImagePartsOnCpu;
      limits_.joining_tokens = kJoiningTokensOnCpu;
    }
  }

  const RunnerLimits& limits() const override { return limits_; }
  bool broken() const override { return broken_; }
  std::string description() const {
    return device_.str() +
           (device_.is_cpu() ? ", " + std::to_string(num_threads_) + " threads" : "") + ", " +
           std::to_string(limits_.kv_tokens) + " tokens of KV cache";
  }

  Status Load(const Bundle& bundle) {
    ASSIGN_OR_RETURN(vision_, LoadModule(bundle, "vision", device_));
    ASSIGN_OR_RETURN(decoder_, LoadModule(bundle, "decoder", device_));
    for (const torch::jit::Module& layer : vision_.attr("layers").toModule().children()) {
      vision_layers_.push_back(layer);
    }
    if (device_.is_cuda()) {
      RETURN_IF_ERROR(CatchTorch("unpacking the weights", [&] {
        UnpackWeights(decoder_);
        at::accelerator::emptyCache();  // of packed ones: the arena is sized by what is free
      }));
    }
    RETURN_IF_ERROR(CatchTorch("allocating the KV arena", [&] {
      Allocate(bundle);
      if (use_graphs_) {
        graphs_ = MakeDecodeGraphs(device_, static_cast<int32_t>(limits_.kv_tokens),
                                   [this](const auto& indices) { return Decode(indices); });
      }
    }));
    return TryOnce();
  }

  Status EncodeImagePart(std::span<const float> pixels, int32_t entry, int32_t part) override {
    return Guarded("encoding an image", [&] {
      UseThreads();
      const torch::jit::GraphOptimizerEnabledGuard no_profiling(false);
      const int64_t side = limits_.image_size;
      IDEFICS_CHECK_EQ(static_cast<int64_t>(pixels.size()), 3 * side * side);
      if (part == 0) {
        const torch::Tensor input =
            torch::from_blob(const_cast<float*>(pixels.data()), {1, 3, side, side}, torch::kFloat32)
                .to(device_);
        patches_ = vision_.get_method("embed")({input}).toTensor();
      }
      const size_t layers = vision_layers_.size();
      const size_t end = layers * (part + 1) / limits_.image_parts;
      for (size_t i = layers * part / limits_.image_parts; i < end; ++i) {
        patches_ = vision_layers_[i].forward({patches_}).toTensor();
      }
      if (part + 1 == limits_.image_parts) StoreImage(entry);
    });
  }

  Status Step(std::span<const StepRow> rows, std::span<float> logits) override {
    return Guarded("running a step", [&] {
      UseThreads();
      const torch::jit::GraphOptimizerEnabledGuard no_profiling(false);
      const StepIndices step(rows);
      torch::Tensor result = graphs_ != nullptr ? graphs_->Run(step) : torch::Tensor();
      if (!result.defined()) {
        result =
            Decode({Indices(step.tokens), Indices(step.positions), Indices(step.kv_slots),
                    Indices(step.image_entry), Indices(step.row_starts), Indices(step.kv_starts),
                    Indices(step.kv_lengths), Indices(step.sample_rows)});
      }
      result = result.to(torch::kCPU).contiguous();
      IDEFICS_CHECK_EQ(static_cast<size_t>(result.numel()), logits.size());
      std::copy_n(result.const_data_ptr<float>(), logits.size(), logits.data());
    });
  }

  Status CopyKv(std::span<const KvCopy> copies) override {
    return Guarded("copying KV of beams", [&] {
      for (const KvCopy& copy : copies) {
        for (torch::Tensor& arena : {std::ref(k_arena_), std::ref(v_arena_)}) {
          arena.narrow(1, copy.to, copy.tokens).copy_(arena.narrow(1, copy.from, copy.tokens));
        }
      }
    });
  }

 private:
  // An error that stays is one that the next call to the device gives too.
  template <typename Body>
  Status Guarded(const char* what, const Body& body) {
    const Status status = CatchTorch(what, body);
    if (status.code() == ErrorCode::kInternal && device_.is_cuda()) {
      broken_ = !CatchTorch("waiting for the device", [&] {
                   torch::cuda::synchronize(device_.index());
                 }).ok();
    }
    return status;
  }

  // REQUIRES: the weights are on the device. On the CPU they are pages of the bundle's files, which
  // count as available until they are read.
  uint64_t FreeBytes(uint64_t weight_bytes) const {
    if (!device_.is_cpu()) return at::accelerator::getMemoryInfo(device_.index()).first;
    const uint64_t free_bytes = FreeHostBytes();
    return free_bytes - std::min(free_bytes, weight_bytes);
  }

  // The arrays of StepIndices on the device → logits [S, vocab] f32.
  torch::Tensor Decode(const std::vector<torch::Tensor>& indices) {
    std::vector<torch::jit::IValue> inputs(indices.begin(), indices.end());
    inputs.insert(inputs.end(), {k_arena_, v_arena_, image_k_, image_v_});
    return decoder_.forward(std::move(inputs)).toTensor();
  }

  void Allocate(const Bundle& bundle) {
    const BundleManifest& manifest = bundle.manifest();
    const ModelConfig& model = manifest.model;
    const auto options = torch::TensorOptions(ActivationType(manifest.dtype)).device(device_);
    if (limits_.kv_tokens == 0) {
      uint64_t weight_bytes = 0;
      for (const TensorView& tensor : bundle.tensors()) weight_bytes += tensor.bytes.size();
      const uint64_t per_token =
          2 * model.num_layers * model.hidden_size * options.dtype().itemsize();
      limits_.kv_tokens = KvTokensThatFit(FreeBytes(weight_bytes), per_token, most_tokens_);
    }
    // Pages are touched when a sequence first uses them. The last slot is the scratch slot of
    // graphs, of no sequence.
    const std::vector<int64_t> arena = {model.num_layers, limits_.kv_tokens + 1, model.num_heads,
                                        model.head_dim()};
    const std::vector<int64_t> table = {model.num_cross_layers(), limits_.image_entries,
                                        model.num_heads, model.tokens_per_image(),
                                        model.head_dim()};
    k_arena_ = torch::empty(arena, options);
    v_arena_ = torch::empty(arena, options);
    image_k_ = torch::empty(table, options);
    image_v_ = torch::empty(table, options);
  }

  // patches_ → the row of the image table.
  void StoreImage(int32_t entry) {
    const auto latents = vision_.get_method("pool")({patches_});
    const auto kv = vision_.get_method("image_kv")({latents}).toTuple();
    image_k_.select(1, entry).copy_(kv->elements()[0].toTensor().select(1, 0));
    image_v_.select(1, entry).copy_(kv->elements()[1].toTensor().select(1, 0));
    patches_ = torch::Tensor();
  }

  Status TryOnce() {
    const int32_t token = 0;
    const int32_t no_image = -1;
    StepRow row;
    row.tokens = std::span(&token, 1);
    row.image_entries = std::span(&no_image, 1);
    std::vector<float> logits(limits_.vocab_size);
    return Step(std::span(&row, 1), logits).WithPrefix("the bundle does not run");
  }

  // OpenMP's thread count belongs to the calling thread.
  void UseThreads() const {
    if (num_threads_ > 0 && at::get_num_threads() != num_threads_)
      at::set_num_threads(num_threads_);
  }

  // Copied, because on the CPU a view would outlive `values`.
  torch::Tensor Indices(const std::vector<int32_t>& values) const {
    return torch::tensor(values, torch::kInt32).to(device_);
  }

  const torch::Device device_;
  const int num_threads_;
  RunnerLimits limits_;
  int64_t most_tokens_ = 0;
  bool broken_ = false;
  torch::jit::Module vision_;
  torch::jit::Module decoder_;
  std::vector<torch::jit::Module> vision_layers_;
  torch::Tensor patches_;            // [1, P, E]: the picture that is being encoded
  torch::Tensor k_arena_, v_arena_;  // [layers, kv_tokens + 1, H, d], activations' type
  torch::Tensor image_k_, image_v_;  // [cross layers, entries, H, L, d]
  const bool use_graphs_;
  std::unique_ptr<DecodeGraphs> graphs_;  // null: every step runs eagerly
};

Result<std::unique_ptr<ModelRunner>> Make(const Bundle& bundle, const TorchRunnerOptions& options,
                                          std::string* description) {
  UseOperators();
  if (!options.fused) UseReferenceOperators();
  ASSIGN_OR_RETURN(const torch::Device device, ChooseDevice(options.device));
  auto runner = std::make_unique<TorchRunner>(bundle.manifest(), device, options);
  RETURN_IF_ERROR(runner->Load(bundle));
  *description = runner->description();
  return std::unique_ptr<ModelRunner>(std::move(runner));
}

}  // namespace
}  // namespace idefics

// Found by name (torch_runner.h).
extern "C" __attribute__((visibility("default"))) void IdeficsMakeTorchRunner(
    const idefics::Bundle& bundle, const idefics::TorchRunnerOptions& options,
    idefics::MadeTorchRunner* made) {
  auto runner = idefics::Make(bundle, options, &made->description);
  made->status = runner.status();
  if (runner.ok()) made->runner = std::move(runner).value();
}
