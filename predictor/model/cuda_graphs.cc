// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/cuda_graphs.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>

#include <map>
#include <utility>

#include "predictor/model/cuda_batch.h"
#include "predictor/model/torch_device.h"

namespace idefics {
namespace {

// cuBLAS makes its handle and workspace in the first; libtorch's own users saw up to three needed.
constexpr int kWarmups = 3;

// One captured step. The graph reads `indices` and writes `outputs` where they lie, so both live as
// long as it does.
struct Captured {
  torch::Tensor indices;         // i32: GraphInput, on the device
  DecodeGraphs::Tensors inputs;  // views of indices, in the order of GraphInput
  at::cuda::CUDAGraph graph;
  DecodeGraphs::Tensors outputs;  // in the graphs' pool
};

class CapturedDecodeGraphs : public DecodeGraphs {
 public:
  CapturedDecodeGraphs(torch::Device device, int32_t scratch_slot, Forward forward)
      : device_(device),
        scratch_slot_(scratch_slot),
        forward_(std::move(forward)),
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index())),
        pool_(at::cuda::graph_pool_handle()) {}

  Tensors Run(const StepIndices& step) override {
    const int rows = failed_ ? 0 : GraphRows(step);
    if (rows == 0) return {};
    const c10::cuda::CUDAGuard device(stream_.device_index());
    const auto [at, first] = graphs_.try_emplace(rows);
    if (first) return {};
    std::unique_ptr<Captured>& captured = at->second;
    const std::vector<int32_t> input = GraphInput(step, rows, scratch_slot_);
    if (captured == nullptr) {
      try {
        captured = Capture(input, rows);
      } catch (const std::exception& error) {
        failed_ = true;
        graphs_.clear();
        TORCH_WARN("steps of ", rows, " rows cannot be captured as a CUDA graph, so all steps run ",
                   "without graphs: ", error.what());
        return {};
      }
    }
    Upload(input, captured.get());
    captured->graph.replay();  // on the current stream
    Tensors outputs;
    for (const torch::Tensor& output : captured->outputs) {
      outputs.push_back(output.narrow(0, 0, static_cast<int64_t>(step.rows())));
    }
    return outputs;
  }

 private:
  // From memory of its own each time: the copy of the step before may not have been made yet.
  void Upload(const std::vector<int32_t>& input, Captured* captured) const {
    captured->indices.copy_(HostCopy(input, torch::kInt32, device_), /*non_blocking=*/true);
  }

  // The warm-ups run the step itself: they write the keys and values that the replay writes again.
  std::unique_ptr<Captured> Capture(const std::vector<int32_t>& input, int rows) {
    auto captured = std::make_unique<Captured>();
    const auto size = static_cast<int64_t>(input.size());
    captured->indices = torch::empty({size}, torch::TensorOptions(torch::kInt32).device(device_));
    int64_t at = 0;
    for (const int64_t count : GraphInputSizes(rows)) {
      captured->inputs.push_back(captured->indices.narrow(0, at, count));
      at += count;
    }
    captured->inputs.back() = captured->inputs.back().view({rows, kRowChoiceWords});
    Upload(input, captured.get());
    c10::cuda::device_synchronize();  // what is on the current stream comes before the other's work
    const c10::cuda::CUDAStreamGuard guard(stream_);
    for (int i = 0; i < kWarmups; ++i) forward_(captured->inputs);
    stream_.synchronize();
    try {
      // Thread-local: an allocation by another thread does not spoil the capture.
      captured->graph.capture_begin(pool_, cudaStreamCaptureModeThreadLocal);
      captured->outputs = forward_(captured->inputs);
      captured->graph.capture_end();
    } catch (...) {
      EndSpoiltCapture(std::move(captured));
      throw;
    }
    return captured;
  }

  // Takes the stream and the allocator out of the capture, however far its end came: one of both
  // calls is one too many, unless the graph is sound.
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

  const torch::Device device_;
  const int32_t scratch_slot_;
  const Forward forward_;
  const c10::cuda::CUDAStream stream_;  // one for all captures: they share a cuBLAS workspace
  // One for all graphs: none is replayed while another's outputs are in use.
  const at::cuda::MempoolId_t pool_;
  std::map<int, std::unique_ptr<Captured>> graphs_;  // by rows; null after the first step
  std::unique_ptr<Captured> spoilt_;
  bool failed_ = false;
};

}  // namespace

std::unique_ptr<DecodeGraphs> MakeDecodeGraphs(torch::Device device, int32_t scratch_slot,
                                               DecodeGraphs::Forward forward) {
  return std::make_unique<CapturedDecodeGraphs>(device, scratch_slot, std::move(forward));
}

}  // namespace idefics
