// SPDX-License-Identifier: Apache-2.0
// Steps replayed from CUDA graphs, one graph for each size of cuda_batch.h: the host starts one
// graph instead of some 900 kernels. docs/performance.md#cuda-graphs, #traps.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

#include "predictor/model/step_indices.h"

namespace idefics {

class StepGraphs {
 public:
  using Tensors = std::vector<at::Tensor>;
  // Runs the decoder on index tensors in the order of kStepArrays. Row i of every output belongs to
  // the step's token i of those that want logits.
  using Forward = std::function<Tensors(const Tensors&)>;

  virtual ~StepGraphs() = default;

  // Captures the graphs of GraphSizes(most_rows, kv_tokens), the largest first: later ones find
  // room in its memory. Waits for the device: before the model serves anybody. A capture that fails
  // is a warning: steps of its kind run eagerly from then on, and all steps where it was of plain
  // decode steps. REQUIRES: the engine thread; a step has run before.
  virtual void Capture(int most_rows, int64_t kv_tokens) = 0;

  // The step's outputs, on the device. Empty where it has to run eagerly: no graph fits. The work
  // goes to the current stream; the outputs are valid until the next Run.
  // REQUIRES: the engine thread.
  virtual Tensors Run(const StepIndices& step) = 0;
};

// Only in builds with CUDA. `forward` must stay callable and its tensors at their addresses as long
// as the graphs live.
std::unique_ptr<StepGraphs> MakeStepGraphs(at::Device device, int32_t scratch_slot,
                                           StepGraphs::Forward forward);

}  // namespace idefics
