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
#include "predictor/model/cuda_graphs.h"
#include "predictor/model/decoder.h"
#include "predictor/model/image_encoder.h"
#include "predictor/model/kv_arena.h"
#include "predictor/model/load_modules.h"
#include "predictor/model/rank_runner.h"
#include "predictor/model/reducers.h"
#include "predictor/model/step_indices.h"
#include "predictor/model/torch_device.h"
#include "predictor/ops/all_reduce.h"
#include "weights/huge_pages.h"
#include "weights/layer_split.h"

namespace idefics {
namespace {

// This many prompt tokens make a decode step of the int8 9b model take about half as long again.
constexpr int32_t kPrefillChunkOnCpu = 16;

// Twice as many as make the int4 9b model fastest on two cores: an arrival does not wait.
constexpr int32_t kMaxNumSeqsOnCpu = 32;
constexpr int32_t kMaxNumSeqsOnGpu = 256;
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
  TorchRunner(const BundleManifest& manifest, const std::vector<at::Device>& devices,
              const TorchRunnerOptions& options, const RankPlace& place)
      : devices_(devices),
        device_(devices.front()),
        place_(place),
        split_(manifest.model),
        num_threads_(options.num_threads),
        kv_dtype_(options.kv_dtype),
        huge_pages_(options.huge_pages.value_or(false)),
        weights_(options.weights),
        use_graphs_(device_.is_cuda() && devices.size() == 1 && options.cuda_graphs &&
                    options.custom_ops),
        step_queue_(devices, /*urgent=*/true) {
    for (const at::Device device : devices_) limits_.AddDevice(device.str());
    limits_.vocab_size = static_cast<int32_t>(manifest.model.total_vocab_size());
    limits_.kv_tokens = options.kv_tokens;
    limits_.image_cache_slots = options.image_cache_slots;
    limits_.max_num_seqs = device_.is_cpu() ? kMaxNumSeqsOnCpu : kMaxNumSeqsOnGpu;
    max_rows_ = options.max_num_seqs > 0 ? options.max_num_seqs : limits_.max_num_seqs;
    max_kv_tokens_ = int64_t{max_rows_} * options.max_sequence_tokens;
    limits_.image_size = static_cast<int32_t>(manifest.model.vision.image_size);
    limits_.max_image_batch = options.max_image_batch;
    if (limits_.max_image_batch == 0) limits_.max_image_batch = device_.is_cpu() ? 1 : kImagesOnGpu;
    if (device_.is_cpu()) limits_.max_prefill_chunk = kPrefillChunkOnCpu;
    limits_.exact_steps = device_.is_cpu() && options.custom_ops;
    limits_.samples_on_device =
        SamplesOnDevice(options.async_scheduling, device_, limits_.vocab_size);
  }

  const RunnerLimits& limits() const override { return limits_; }
  bool broken() const override { return broken_; }
  std::string description() const {
    const std::string threads =
        device_.is_cpu() ? ", " + std::to_string(num_threads_) + " threads" : "";
    const std::string form = weights_ == DecoderWeights::kFp8 ? "fp8 weights, " : "weights, ";
    std::string text;
    for (size_t i = 0; i < devices_.size(); ++i) {
      text += devices_[i].str() + (i == 0 ? threads : "") + ", ";
      if (devices_.size() > 1) text += std::to_string(split_.layers()[i].count) + " layers in ";
      text += std::to_string(weight_bytes_[i]) + " bytes of " + form;
    }
    return text + std::to_string(limits_.kv_tokens) + " tokens of KV cache" +
           (kv_dtype_ == KvDType::kInt8 ? " in int8, " : ", ") +
           std::to_string(limits_.image_cache_slots) + " images";
  }

  Status Load(const Bundle& bundle) {
    ASSIGN_OR_RETURN(split_, LayerSplit::Make(bundle.manifest().model, bundle.tensors(),
                                              static_cast<int>(devices_.size())));
    ASSIGN_OR_RETURN(reducer_, MakeReducer(place_, device_));
    ASSIGN_OR_RETURN(LoadedModules modules,
                     LoadModules(bundle, split_, devices_, place_.rank, weights_));
    weight_bytes_ = std::move(modules.weight_bytes);
    RETURN_IF_ERROR(CatchTorch("sizing the KV arena", [&] { ChooseSizes(bundle); }));
    RETURN_IF_ERROR(AgreeOnSizes());
    const Status allocated = CatchTorch("allocating memory", [&] {
      Allocate(bundle.manifest(), std::move(modules));
#ifdef IDEFICS_WITH_CUDA
      if (use_graphs_) {
        graphs_ = MakeStepGraphs(device_, static_cast<int32_t>(limits_.kv_tokens),
                                 [this](const auto& indices) { return Decode(indices); });
      }
#endif
      // The queues do not wait for the work on the default stream.
      SynchronizeDevices();
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
      graphs_->Capture(max_rows_, limits_.kv_tokens);
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
    const Status status = Guarded("running a step", [&] {
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
        logits = logits.index_select(0, OnDevice(step.host_rows, at::kLong, logits.device()));
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
    // The other ranks' GPUs wait for sums of this step, and would take the next one's for them.
    if (!status.ok() && place_.group != nullptr && device_.is_cuda()) broken_ = true;
    return status;
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
        decoder_->CopyKv(copy);
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
    DeviceQueue::InUse queue;
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
      broken_ = !CatchTorch("waiting for the device", [&] { SynchronizeDevices(); }).ok();
    }
    return status;
  }

  void SynchronizeDevices() const {
    for (const at::Device device : devices_) {
      if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.index());
    }
  }

  // kStepArrays on the device → logits [S, vocab] f32 and, where this runner samples, the tokens
  // [S] i32. Sampling overwrites the logits of its rows.
  std::vector<at::Tensor> Decode(const std::vector<at::Tensor>& indices) {
    std::vector<at::Tensor> inputs(indices.begin(), indices.end() - 1);
    if (limits_.samples_on_device) {
      inputs[kTokensArray] =
          GatherLastTokens(indices[kTokensArray], indices[kKvSlotsArray], history_);
    }
    const at::Tensor logits = decoder_->Logits(inputs);
    if (!limits_.samples_on_device) return {logits};
    return {logits, SampleTokens(logits, indices[kSamplingParamsArray], history_)};
  }

  // Free on the device for the caches. REQUIRES: the weights are there.
  uint64_t FreeBytes(at::Device device, const Bundle& bundle) const {
    if (!device.is_cpu()) return at::accelerator::getMemoryInfo(device.index()).first;
    const uint64_t free_bytes = FreeHostBytes();
    return (free_bytes - std::min(free_bytes, bundle.weight_bytes())) / place_.rank.count;
  }

  // Where no flag says how large the caches are, memory does.
  void ChooseSizes(const Bundle& bundle) {
    const BundleManifest& manifest = bundle.manifest();
    const auto heads = static_cast<uint64_t>(RankHeads(manifest.model, place_.rank).count);
    const auto part = [&](uint64_t bytes) {
      return bytes / static_cast<uint64_t>(manifest.model.num_heads) * heads;
    };
    std::vector<CacheRoom> rooms;
    for (int stage = 0; stage < split_.stages(); ++stage) {
      const at::Device device = devices_[static_cast<size_t>(stage)];
      // Stages on CPUs share the host.
      if (rooms.empty() || !device.is_cpu()) rooms.push_back({FreeBytes(device, bundle), 0, 0});
      CacheRoom& room = rooms.back();
      room.kv_per_token += split_.PartOfLayers(part(manifest.kv_bytes_per_token(kv_dtype_)), stage);
      room.per_image += split_.PartOfCrossLayers(part(manifest.image_kv_bytes()), stage);
    }
    const CacheSizes sizes =
        SizesThatFit({limits_.kv_tokens, limits_.image_cache_slots}, rooms,
                     device_.is_cpu() ? kHostShare : kDeviceShare, max_kv_tokens_);
    limits_.kv_tokens = sizes.kv_tokens;
    limits_.image_cache_slots = sizes.image_slots;
  }

  void Allocate(const BundleManifest& manifest, LoadedModules modules) {
    decoder_.emplace(std::move(modules.decoder), split_, devices_);
    decoder_->Allocate(manifest.model, RankHeads(manifest.model, place_.rank).count, kv_dtype_,
                       ActivationType(manifest.dtype),
                       {limits_.kv_tokens, limits_.image_cache_slots});
    images_.emplace(std::move(modules.vision), decoder_->image_caches(), devices_);
    if (limits_.samples_on_device) {
      history_ = at::zeros({limits_.kv_tokens + 1}, at::TensorOptions(at::kInt).device(device_));
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
  static at::Tensor OnDevice(const std::vector<Value>& values, at::ScalarType type,
                             at::Device device) {
    return HostCopy(values, type, device).to(device, /*non_blocking=*/true);
  }

  // One copy for all arrays.
  std::vector<at::Tensor> Indices(const StepIndices& step) const {
    const at::Tensor all = OnDevice(step.Concatenated(), at::kInt, device_);
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

  const std::vector<at::Device> devices_;  // by stage
  const at::Device device_;                // the first
  const RankPlace place_;
  LayerSplit split_;
  const int num_threads_;
  RunnerLimits limits_;
  int32_t max_rows_ = 0;
  int64_t max_kv_tokens_ = 0;
  std::vector<uint64_t> weight_bytes_;  // by device
  bool broken_ = false;
  std::unique_ptr<Reducer> reducer_;  // null: this is the whole model
  std::optional<Decoder> decoder_;
  const KvDType kv_dtype_;
  at::Tensor history_;  // [kv_tokens + 1] i32: the token of each KV slot
  const bool huge_pages_;
  const DecoderWeights weights_;
  const bool use_graphs_;
  std::unique_ptr<StepGraphs> graphs_;  // null: every step runs eagerly
  const DeviceQueue step_queue_;
  std::deque<StartedStep> in_flight_;
  std::optional<ImageEncoder> images_;
  std::optional<HugePageMover> huge_page_mover_;
};

}  // namespace

Result<std::unique_ptr<ModelRunner>> LoadRankRunner(const Bundle& bundle,
                                                    const std::vector<at::Device>& devices,
                                                    const TorchRunnerOptions& options,
                                                    const RankPlace& place,
                                                    std::string* description) {
  std::unique_ptr<TorchRunner> runner;
  RETURN_IF_ERROR(CatchTorch("preparing the device", [&] {
    runner = std::make_unique<TorchRunner>(bundle.manifest(), devices, options, place);
  }));
  RETURN_IF_ERROR(runner->Load(bundle));
  *description = runner->description();
  return std::unique_ptr<ModelRunner>(std::move(runner));
}

}  // namespace idefics
