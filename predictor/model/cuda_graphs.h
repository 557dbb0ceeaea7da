// SPDX-License-Identifier: Apache-2.0
// Decode steps replayed from CUDA graphs, one graph for each number of rows of cuda_batch.h: the
// host starts one graph instead of some 900 kernels. docs/performance.md#cuda-graphs, #traps.
#pragma once

#include <torch/types.h>

#include <functional>
#include <memory>
#include <vector>

#include "predictor/model/step_indices.h"

namespace idefics {

class DecodeGraphs {
 public:
  using Tensors = std::vector<torch::Tensor>;
  // Runs the decoder on index tensors in the order of StepIndices; each output has a row's part in
  // each of its rows.
  using Forward = std::function<Tensors(const Tensors&)>;

  virtual ~DecodeGraphs() = default;

  // The outputs on the device, of the step's rows, or none where the step has to run eagerly: no
  // graph fits, it is the first step of its size, or a capture has failed (a warning says so once;
  // from then on no step uses a graph). The work goes to the current stream; the outputs hold until
  // the work of the next Run. REQUIRES: the engine thread.
  virtual Tensors Run(const StepIndices& step) = 0;
};

// `forward` must stay callable and its tensors in their places as long as the graphs live. Null in
// builds without CUDA.
std::unique_ptr<DecodeGraphs> MakeDecodeGraphs(torch::Device device, int32_t scratch_slot,
                                               DecodeGraphs::Forward forward);

}  // namespace idefics
