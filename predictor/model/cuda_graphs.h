// SPDX-License-Identifier: Apache-2.0
// Decode steps replayed from CUDA graphs, one graph for each number of rows of cuda_batch.h: the
// host starts one graph instead of some 900 kernels. docs/performance.md#cuda-graphs, #traps.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

#include "predictor/model/step_indices.h"

namespace idefics {

class DecodeGraphs {
 public:
  using Tensors = std::vector<at::Tensor>;
  // Runs the decoder on index tensors in the order of kStepArrays. Row r of every output belongs to
  // row r of the step.
  using Forward = std::function<Tensors(const Tensors&)>;

  virtual ~DecodeGraphs() = default;

  // Captures the graphs for steps of up to `most_rows` rows, largest first: later ones find room in
  // its memory. Waits for the device: before the model serves anybody. A capture that fails is a
  // warning, and from then on every step runs eagerly. REQUIRES: the engine thread; a step has run
  // before.
  virtual void Capture(int most_rows) = 0;

  // The outputs of the step's rows, on the device. Empty where the step has to run eagerly: no
  // graph fits. The work goes to the current stream; the outputs are valid until the next Run.
  // REQUIRES: the engine thread.
  virtual Tensors Run(const StepIndices& step) = 0;
};

// Only in builds with CUDA. `forward` must stay callable and its tensors at their addresses as long
// as the graphs live.
std::unique_ptr<DecodeGraphs> MakeDecodeGraphs(at::Device device, int32_t scratch_slot,
                                               DecodeGraphs::Forward forward);

}  // namespace idefics
