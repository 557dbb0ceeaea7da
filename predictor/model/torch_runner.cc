// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/torch_runner.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <vector>

#include "common/check.h"
#include "predictor/model/arena_size.h"
#include "predictor/model/cuda_batch.h"
#include "predictor/model/cuda_graphs.h"
#include "predictor/model/cuda_weights.h"
#include "predictor/model/image_encoder.h"
#include "predictor/model/kv_arena.h"
#include "predictor/model/rank_runner.h"
#include "predictor/model/reducers.h"
#include "predictor/model/step_indices.h"
#include "predictor/model/torch_device.h"
#include "predictor/ops/all_reduce.h"
#include "weights/huge_pages.h"
#include "weights/module_loader.h"

namespace idefics {
namespace {

// This many prompt tokens make a decode step of the int8 9b model take about half as long again.
constexpr int32_t kPrefillChunkOnCpu = 16;

// Twice as many as make the int4 9b model fastest on two cores: an arrival does not wait.
constexpr int32_t kMaxNumSeqsOnCpu = 32;
constexpr int32_t kMaxNumSeqsOnGpu = kGraphRows.back();
constexpr int32_t kImagesOnGpu = 8;  // started by the host in the time of one

at::Tensor GatherLastTokens(const at::Tensor& tokens, const at::Tensor& kv_slots,
                            const at::Tensor& history) {
  static const auto gather =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("idefics::gather_last_tokens", "")
          .typed<at::Tensor(const at::Tensor&, const at::Tensor&, at::Tensor)>();
  return gather.call(tokens, kv_slots, history);
}

at::Tensor SampleTokens(const at::Tensor& logits, const at::Tensor& sampling_params,
                        const at::Tensor& history) {
  static const auto sample = c10::Dispatcher::singleton()
                                 .findSchemaOrThrow("idefics::sample_tokens", "")
                                 .typed<at::Tensor(at::Tensor, const at::Tensor&, at::Tensor)>();
  return sample.call(logits, sampling_params, history);
}

// On a CPU it gains nothing: the host's threads run the steps.
bool SamplesOnDevice(AsyncScheduling scheduling, at::Device device, int64_t vocab) {
  if (scheduling == AsyncScheduling::kAuto) return !device.is_cpu() && vocab <= kMaxDeviceVocab;
  return scheduling == AsyncScheduling::kOn;
}

class TorchRunner : public ModelRunner {
 public:
  TorchRunner(const BundleManifest& manifest, at::Device device, const TorchRunnerOptions& options,
              const RankPlace& place)
      : device_(device),
        place_(place),
        num_threads_(options.num_threads),
        kv_dtype_(options.kv_dtype),
        huge_pages_(options.huge_pages.value_or(false)),
        fp8_(options.weights == DecoderWeights::kFp8),
        use_graphs_(device.is_cuda() && options.cuda_graphs && options.custom_ops),
        step_queue_(device, /*urgent=*/true) {
    limits_.device = device.str();
    limits_.vocab_size = static_cast<int32_t>(manifest.model.total_vocab_size());
    limits_.kv_tokens = options.kv_tokens;
    limits_.image_cache_slots = options.image_cache_slots;
    limits_.max_num_seqs = device.is_cpu() ? kMaxNumSeqsOnCpu : kMaxNumSeqsOnGpu;
    max_rows_ = options.max_num_seqs > 0 ? options.max_num_seqs : limits_.max_num_seqs;
    max_kv_tokens_ = int64_t{max_rows_} * options.max_sequence_tokens;
    limits_.image_size = static_cast<int32_t>(manifest.model.vision.image_size);
    limits_.max_image_batch = options.max_image_batch;
    if (limits_.max_image_batch == 0) limits_.max_image_batch = device.is_cpu() ? 1 : kImagesOnGpu;
    if (device.is_cpu()) limits_.max_prefill_chunk = kPrefillChunkOnCpu;
    limits_.exact_steps = device.is_cpu() && options.custom_ops;
    limits_.samples_on_device =
        SamplesOnDevice(options.async_scheduling, device, limits_.vocab_size);
  }

  const RunnerLimits& limits() const override { return limits_; }
  bool broken() const override { return broken_; }
  std::string description() const {
    return device_.str() +
           (device_.is_cpu() ? ", " + std::to_string(num_threads_) + " threads" : "") + ", " +
           std::to_string(weight_bytes_) + " bytes of " + (fp8_ ? "fp8 " : "") + "weights, " +
           std::to_string(limits_.kv_tokens) + " tokens of KV cache" +
           (kv_dtype_ == KvDType::kInt8 ? " in int8, " : ", ") +
           std::to_string(limits_.image_cache_slots) + " images";
  }

  Status Load(const Bundle& bundle) {
    ASSIGN_OR_RETURN(reducer_, MakeReducer(place_, device_));
    ASSIGN_OR_RETURN(const torch::jit::Module vision,
                     LoadModule(bundle, "vision", device_, place_.rank));
    // With fp8 each weight is moved by itself: in 16 bit all of them might not fit on the device.
    ASSIGN_OR_RETURN(decoder_,
                     LoadModule(bundle, "decoder", fp8_ ? at::kCPU : device_, place_.rank));
    if (device_.is_cuda()) {
      RETURN_IF_ERROR(CatchTorch("unpacking the weights", [&] {
        if (fp8_) QuantizeWeightsToFp8(decoder_, device_);
        UnpackWeights(decoder_);
        UnpackWeights(vision);
        if (bundle.manifest().vision_quantization != "none") {
          DequantizeWeights(vision, vision.attr("class_embedding").toTensor().scalar_type());
        }
        at::accelerator::emptyCache();  // the arena is sized by what is free
      }));
    }
    for (const torch::jit::Module& module : {vision, decoder_}) {
      for (const at::Tensor& parameter : module.parameters()) weight_bytes_ += parameter.nbytes();
    }
    RETURN_IF_ERROR(CatchTorch("sizing the KV arena", [&] { ChooseSizes(bundle); }));
    RETURN_IF_ERROR(AgreeOnSizes());
    const Status allocated = CatchTorch("allocating memory", [&] {
      Allocate(bundle.manifest());
      images_.emplace(vision, image_cache_, device_);
#ifdef IDEFICS_WITH_CUDA
      if (use_graphs_) {
        graphs_ = MakeDecodeGraphs(device_, static_cast<int32_t>(limits_.kv_tokens),
                                   [this](const auto& indices) { return Decode(indices); });
      }
#endif
      // The queues do not wait for the work on the default stream.
      if (!device_.is_cpu()) at::accelerator::synchronizeDevice(device_.index());
    });
    RETURN_IF_ERROR(
        allocated.WithPrefix(std::to_string(limits_.kv_tokens) + " tokens of KV cache and " +
                             std::to_string(limits_.image_cache_slots) +
                             " images cannot be held; a smaller --kv-tokens "
                             "or --image-cache-slots may fit, and 0 is what memory allows"));
    RETURN_IF_ERROR(TryOnce());
    if (huge_pages_) huge_page_mover_.emplace(bundle.tensors());
    if (graphs_ == nullptr) return Status::Ok();
    return Guarded("capturing steps", [&] {
      const auto queue = Enter(step_queue_);
      graphs_->Capture(max_rows_);
    });
  }

  Status BeginImages(std::span<const ImageInput> images) override {
    return Guarded("encoding images", [&] {
      const auto queue = Enter(images_->queue());
      images_->Begin(images, limits_.image_size, step_queue_);
    });
  }

  Result<bool> ContinueImages(bool wait) override {
    bool done = false;
    RETURN_IF_ERROR(Guarded("encoding images", [&] {
      const auto queue = Enter(images_->queue());
      done = images_->Continue(wait);
    }));
    return done;
  }

  Status StartStep(std::span<const StepRow> rows) override {
    return Guarded("running a step", [&] {
      const auto began = std::chrono::steady_clock::now();
      const auto queue = Enter(step_queue_);
      const StepIndices step(rows);
      std::vector<at::Tensor> outputs;
      if (graphs_ != nullptr) outputs = graphs_->Run(step);
      if (outputs.empty()) outputs = Decode(Indices(step));
      at::Tensor logits = outputs.at(0);
      if (step.host_rows.empty() || place_.rank.index > 0) {  // rank 0's are the model's
        logits = logits.narrow(0, 0, 0);
      } else if (step.host_rows.size() < step.sample_rows.size()) {
        logits = logits.index_select(0, OnDevice(step.host_rows, at::kLong));
      }
      const auto to_host = [](const at::Tensor& tensor) {  // from a GPU into pinned memory
        return tensor.to(at::kCPU, /*non_blocking=*/true).contiguous();
      };
      at::Tensor sampled;
      if (outputs.size() > 1) sampled = to_host(outputs[1]);
      in_flight_.push_back(
          {step.sample_rows.size(), sampled, to_host(logits), DeviceMark(step_queue_)});
      if (device_.is_cpu() && IsDecodeStep(rows)) {
        images_->NoteStep(std::chrono::steady_clock::now() - began);
      }
    });
  }

  Status FinishStep(StepOutput* output) override {
    IDEFICS_CHECK(!in_flight_.empty());
    const StartedStep step = std::move(in_flight_.front());
    in_flight_.pop_front();
    return Guarded("finishing a step", [&] {
      step.done.Wait();
      const auto* logits = step.logits.const_data_ptr<float>();
      output->logits.assign(logits, logits + step.logits.numel());
      output->sampled.assign(step.rows, kNoToken);
      if (step.sampled.defined()) {
        std::copy_n(step.sampled.const_data_ptr<int32_t>(), step.rows, output->sampled.begin());
      }
    });
  }

  Status CopyKv(std::span<const KvCopy> copies) override {
    return Guarded("copying KV", [&] {
      const auto queue = Enter(step_queue_);
      for (const KvCopy& copy : copies) {
        arena_.Copy(copy);
        if (!history_.defined()) continue;
        history_.narrow(0, copy.to, copy.tokens).copy_(history_.narrow(0, copy.from, copy.tokens));
      }
    });
  }

 private:
  struct StartedStep {
    size_t rows;         // that want logits
    at::Tensor sampled;  // [rows] i32 on the host; undefined where the host samples
    at::Tensor logits;   // [rows that the host samples, vocab] f32 on the host
    DeviceMark done;     // both have arrived
  };

  // Settings of the thread while the result lives: its queue, TorchScript without profiling, and
  // the way to the other ranks.
  struct Entered {
    c10::OptionalStreamGuard queue;
    torch::jit::GraphOptimizerEnabledGuard no_profiling;
    UseReducer reducer;
  };
  Entered Enter(const DeviceQueue& queue) const {
    UseThreads();
    return {queue.Use(), torch::jit::GraphOptimizerEnabledGuard(false), UseReducer(reducer_.get())};
  }

  // Of the sizes that each rank's memory allows, the smallest.
  Status AgreeOnSizes() {
    if (place_.group == nullptr) return Status::Ok();
    const auto least = [this](int64_t mine) {
      return place_.group->Least(place_.rank.index, mine);
    };
    ASSIGN_OR_RETURN(limits_.kv_tokens, least(limits_.kv_tokens));
    ASSIGN_OR_RETURN(const int64_t images, least(limits_.image_cache_slots));
    limits_.image_cache_slots = static_cast<int32_t>(images);
    return Status::Ok();
  }

  // A device is broken when waiting for it fails as well.
  template <typename Body>
  Status Guarded(const char* what, const Body& body) {
    const Status status = CatchTorch(what, body);
    if (status.code() == ErrorCode::kInternal && device_.is_cuda()) {
      broken_ = !CatchTorch("waiting for the device", [&] {
                   at::accelerator::synchronizeDevice(device_.index());
                 }).ok();
    }
    return status;
  }

  // REQUIRES: the weights are on the device.
  uint64_t FreeBytes(const Bundle& bundle) const {
    if (!device_.is_cpu()) return at::accelerator::getMemoryInfo(device_.index()).first;
    const uint64_t free_bytes = FreeHostBytes();
    return (free_bytes - std::min(free_bytes, bundle.weight_bytes())) / place_.rank.count;
  }

  // kStepArrays on the device → logits [S, vocab] f32 and, where this runner samples, the tokens
  // [S] i32. Sampling overwrites the logits of its rows.
  std::vector<at::Tensor> Decode(const std::vector<at::Tensor>& indices) {
    std::vector<torch::jit::IValue> inputs(indices.begin(), indices.end() - 1);
    if (limits_.samples_on_device) {
      inputs[kTokensArray] =
          GatherLastTokens(indices[kTokensArray], indices[kKvSlotsArray], history_);
    }
    inputs.insert(inputs.end(), {arena_.k, arena_.v, image_cache_.k, image_cache_.v});
    const at::Tensor logits = decoder_.forward(std::move(inputs)).toTensor();
    if (!limits_.samples_on_device) return {logits};
    return {logits, SampleTokens(logits, indices[kSamplingParamsArray], history_)};
  }

  // Where no flag says how large the caches are, memory does.
  void ChooseSizes(const Bundle& bundle) {
    const BundleManifest& manifest = bundle.manifest();
    const uint64_t free_bytes = FreeBytes(bundle);
    const auto heads = static_cast<uint64_t>(RankHeads(manifest.model, place_.rank).count);
    const auto part = [&](uint64_t bytes) {
      return bytes / static_cast<uint64_t>(manifest.model.num_heads) * heads;
    };
    const uint64_t image_bytes = part(manifest.image_kv_bytes());
    if (limits_.image_cache_slots == 0) {
      limits_.image_cache_slots = ImageSlotsThatFit(free_bytes, image_bytes);
    }
    if (limits_.kv_tokens > 0) return;
    const double share = device_.is_cpu() ? kHostShare : kDeviceShare;
    const auto both = static_cast<uint64_t>(share * static_cast<double>(free_bytes));
    const uint64_t images = image_bytes * limits_.image_cache_slots;
    limits_.kv_tokens =
        KvTokensThatFit(both - std::min(both, images), part(manifest.kv_bytes_per_token(kv_dtype_)),
                        max_kv_tokens_);
  }

  void Allocate(const BundleManifest& manifest) {
    const ModelConfig& model = manifest.model;
    const int64_t heads = RankHeads(model, place_.rank).count;
    const auto options = at::TensorOptions(ActivationType(manifest.dtype)).device(device_);
    const std::vector<int64_t> table = {model.num_cross_layers(), limits_.image_cache_slots, heads,
                                        model.tokens_per_image(), model.head_dim()};
    arena_ = KvArena::Allocate(model.num_layers, {heads, model.head_dim()}, kv_dtype_,
                               limits_.kv_tokens, options);
    image_cache_.k = at::empty(table, options);
    image_cache_.v = at::empty(table, options);
    if (limits_.samples_on_device) {
      history_ = at::zeros({limits_.kv_tokens + 1}, options.dtype(at::kInt));
    }
  }

  Status TryOnce() {
    const int32_t token = 0;
    const int32_t no_image = -1;
    StepRow row;
    row.tokens = std::span(&token, 1);
    row.image_slots = std::span(&no_image, 1);
    StepOutput output;
    Status status = StartStep(std::span(&row, 1));
    if (status.ok()) status = FinishStep(&output);
    return status.WithPrefix("the bundle does not run");
  }

  // OpenMP keeps a thread count for each calling thread.
  void UseThreads() const {
    if (num_threads_ > 0 && at::get_num_threads() != num_threads_) {
      at::set_num_threads(num_threads_);
    }
  }

  // Does not wait for the GPU, which may still run the step before.
  template <typename Value>
  at::Tensor OnDevice(const std::vector<Value>& values, at::ScalarType type) const {
    return HostCopy(values, type, device_).to(device_, /*non_blocking=*/true);
  }

  // One copy for all arrays.
  std::vector<at::Tensor> Indices(const StepIndices& step) const {
    const at::Tensor all = OnDevice(step.Concatenated(), at::kInt);
    std::vector<at::Tensor> indices;
    int64_t at = 0;
    for (const StepArray& array : kStepArrays) {
      const auto size = static_cast<int64_t>((step.*array.values).size());
      const at::Tensor values = all.narrow(0, at, size);
      indices.push_back(array.columns == 1 ? values : values.view({-1, array.columns}));
      at += size;
    }
    return indices;
  }

  const at::Device device_;
  const RankPlace place_;
  const int num_threads_;
  RunnerLimits limits_;
  int32_t max_rows_ = 0;
  int64_t max_kv_tokens_ = 0;
  uint64_t weight_bytes_ = 0;
  bool broken_ = false;
  std::unique_ptr<Reducer> reducer_;  // null: this is the whole model
  torch::jit::Module decoder_;
  const KvDType kv_dtype_;
  KvArena arena_;
  ImageCacheTensors image_cache_;
  at::Tensor history_;  // [kv_tokens + 1] i32: the token of each KV slot
  const bool huge_pages_;
  const bool fp8_;
  const bool use_graphs_;
  std::unique_ptr<DecodeGraphs> graphs_;  // null: every step runs eagerly
  const DeviceQueue step_queue_;
  std::deque<StartedStep> in_flight_;
  std::optional<ImageEncoder> images_;
  std::optional<HugePageMover> huge_page_mover_;
};

}  // namespace

Result<std::unique_ptr<ModelRunner>> LoadRankRunner(const Bundle& bundle, at::Device device,
                                                    const TorchRunnerOptions& options,
                                                    const RankPlace& place,
                                                    std::string* description) {
  std::unique_ptr<TorchRunner> runner;
  RETURN_IF_ERROR(CatchTorch("preparing the device", [&] {
    runner = std::make_unique<TorchRunner>(bundle.manifest(), device, options, place);
  }));
  RETURN_IF_ERROR(runner->Load(bundle));
  *description = runner->description();
  return std::unique_ptr<ModelRunner>(std::move(runner));
}

}  // namespace idefics
