// SPDX-License-Identifier: Apache-2.0
// Decode steps replayed from CUDA graphs, one graph for each number of rows of cuda_batch.h: the
// host starts one graph instead of some 900 kernels. reference/performance.md sections 3.2 and 10.
#pragma once

#include <torch/types.h>

#include <functional>
#include <memory>
#include <vector>

#include "predictor/model/step_indices.h"

namespace idefics {

class DecodeGraphs {
 public:
  // Runs the decoder on index tensors in the order of StepIndices; logits [rows, vocab].
  using Forward = std::function<torch::Tensor(const std::vector<torch::Tensor>&)>;

  virtual ~DecodeGraphs() = default;

  // Logits [rows of the step, vocab] on the device, or an undefined tensor where the step has to
  // run eagerly: no graph fits, it is the first step of its size, or a capture has failed (a
  // warning says so once; from then on no step uses a graph). The logits hold until the next Run.
  // REQUIRES: the engine thread; work of the steps before was waited for.
  virtual torch::Tensor Run(const StepIndices& step) = 0;
};

// `forward` must stay callable and its tensors in their places as long as the graphs live. Null in
// builds without CUDA.
std::unique_ptr<DecodeGraphs> MakeDecodeGraphs(torch::Device device, int32_t scratch_slot,
                                               DecodeGraphs::Forward forward);

}  // namespace idefics
