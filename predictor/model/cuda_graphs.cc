// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/cuda_graphs.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>

#include <map>
#include <optional>
#include <utility>

#include "predictor/model/cuda_batch.h"
#include "predictor/model/torch_device.h"

namespace idefics {
namespace {

// Runs before a capture. The first one makes cuBLAS's handle and workspace; torch.cuda.graphs'
// own examples use three.
constexpr int kWarmups = 3;

// One captured step. The graph reads `indices` and writes `outputs` at fixed addresses, so both
// live as long as it does.
struct Captured {
  at::Tensor indices;          // i32: GraphInput, on the device
  StepGraphs::Tensors inputs;  // views of indices, in the order of kStepArrays
  at::cuda::CUDAGraph graph;
  StepGraphs::Tensors outputs;  // in the graphs' pool
};

class CapturedStepGraphs : public StepGraphs {
 public:
  CapturedStepGraphs(at::Device device, int32_t scratch_slot, Forward forward)
      : device_(device),
        scratch_slot_(scratch_slot),
        forward_(std::move(forward)),
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index())),
        pool_(at::cuda::graph_pool_handle()) {}

  void Capture(int most_rows, int64_t kv_tokens) override {
    const c10::cuda::CUDAGuard device(stream_.device_index());
    for (const StepSize& size : GraphSizes(most_rows, kv_tokens)) {
      try {
        graphs_[size] = CaptureStep(size);
      } catch (const std::exception& error) {
        const bool decodes = size.tokens == size.rows;
        if (decodes) graphs_.clear();
        TORCH_WARN("steps of ", size.tokens, " tokens in ", size.rows, " rows cannot be captured ",
                   "as a CUDA graph, so ", decodes ? "all steps" : "steps with prompts",
                   " run without graphs: ", error.what());
        return;
      }
    }
  }

  Tensors Run(const StepIndices& step) override {
    const std::optional<StepSize> size = GraphSizeOf(step);
    const auto found = size ? graphs_.find(*size) : graphs_.end();
    if (found == graphs_.end()) return {};
    const c10::cuda::CUDAGuard device(stream_.device_index());
    Captured* const captured = found->second.get();
    Upload(GraphInput(step, *size, scratch_slot_), captured);
    captured->graph.replay();  // on the current stream
    Tensors outputs;
    for (const at::Tensor& output : captured->outputs) {
      outputs.push_back(output.narrow(0, 0, step.size().samples));
    }
    return outputs;
  }

 private:
  // Copies from new host memory each time: the copy for the step before may still be waiting.
  void Upload(const std::vector<int32_t>& input, Captured* captured) const {
    captured->indices.copy_(HostCopy(input, at::kInt, device_), /*non_blocking=*/true);
  }

  // Of a step whose rows all write to the scratch slot.
  std::unique_ptr<Captured> CaptureStep(const StepSize& size) {
    const std::vector<int32_t> input = GraphInput(StepIndices({}), size, scratch_slot_);
    auto captured = std::make_unique<Captured>();
    const auto numbers = static_cast<int64_t>(input.size());
    captured->indices = at::empty({numbers}, at::TensorOptions(at::kInt).device(device_));
    const auto sizes = GraphInputSizes(size);
    int64_t at = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      const at::Tensor array = captured->indices.narrow(0, at, sizes[i]);
      const int64_t columns = kStepArrays[i].columns;
      captured->inputs.push_back(columns == 1 ? array : array.view({-1, columns}));
      at += sizes[i];
    }
    Upload(input, captured.get());
    c10::cuda::device_synchronize();  // the current stream's work comes before this stream's
    const c10::cuda::CUDAStreamGuard guard(stream_);
    for (int i = 0; i < kWarmups; ++i) forward_(captured->inputs);
    stream_.synchronize();
    try {
      // Thread-local: an allocation by another thread does not invalidate the capture.
      captured->graph.capture_begin(pool_, cudaStreamCaptureModeThreadLocal);
      captured->outputs = forward_(captured->inputs);
      captured->graph.capture_end();
    } catch (...) {
      EndSpoiltCapture(std::move(captured));
      throw;
    }
    return captured;
  }

  // Takes the stream and the allocator out of a capture that failed at an unknown point. Each of
  // the two calls may find that nothing is left to end, and throw.
  void EndSpoiltCapture(std::unique_ptr<Captured> captured) {
    try {
      captured->graph.capture_end();
    } catch (const std::exception&) {
    }
    try {
      c10::cuda::CUDACachingAllocator::endAllocateToPool(stream_.device_index(), pool_);
    } catch (const std::exception&) {
    }
    spoilt_ = std::move(captured);  // the allocators may still ask it whether it is capturing
  }

  const at::Device device_;
  const int32_t scratch_slot_;
  const Forward forward_;
  const c10::cuda::CUDAStream stream_;  // one for all captures: they share a cuBLAS workspace
  // One for all graphs: none is replayed while another's outputs are in use.
  const at::cuda::MempoolId_t pool_;
  std::map<StepSize, std::unique_ptr<Captured>> graphs_;
  std::unique_ptr<Captured> spoilt_;
};

}  // namespace

std::unique_ptr<StepGraphs> MakeStepGraphs(at::Device device, int32_t scratch_slot,
                                           StepGraphs::Forward forward) {
  return std::make_unique<CapturedStepGraphs>(device, scratch_slot, std::move(forward));
}

}  // namespace idefics
