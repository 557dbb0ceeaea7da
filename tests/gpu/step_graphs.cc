// SPDX-License-Identifier: Apache-2.0
// predictor/model/cuda_graphs.cc on a decoder of one layer: replayed steps against eager ones.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "predictor/model/cuda_graphs.h"
#include "tests/gpu/gpu_checks.h"
#include "tests/model/tiny_decoder.h"

namespace idefics::test {
namespace {

TinyDecoder OnGpu() { return {RegisteredOperators(), at::kCUDA}; }

StepIndices DecodeStep(int rows, int before) {
  return TinyStep(std::vector<int>(static_cast<size_t>(rows), 1), before).indices();
}

at::Tensor Eagerly(const TinyDecoder& decoder, const StepIndices& step) {
  return decoder.Forward(EagerInputs(step, at::kCUDA));
}

std::unique_ptr<StepGraphs> Graphs(StepGraphs::Forward forward) {
  return MakeStepGraphs(at::Device(at::kCUDA), TinyDecoder::kScratch, std::move(forward));
}

void CompareSteps() {
  const TinyDecoder mine = OnGpu(), eager = OnGpu();
  const auto graphs = Graphs(
      [&](const StepGraphs::Tensors& inputs) { return StepGraphs::Tensors{mine.Forward(inputs)}; });
  Eagerly(mine, DecodeStep(1, 0));
  Eagerly(eager, DecodeStep(1, 0));
  graphs->Capture(8, TinyDecoder::kSlots);
  for (int before = 0; before < 6; ++before) {
    for (const int rows : {1, 3, 8, 5}) {  // 5 and 8 share a graph
      const StepIndices step = DecodeStep(rows, before);
      const StepGraphs::Tensors outputs = graphs->Run(step);
      const std::string where =
          "a graph of " + std::to_string(rows) + " rows, step " + std::to_string(before);
      Expect(!outputs.empty(), where + " is replayed");
      if (outputs.empty()) continue;
      ExpectEqual(where, outputs[0].to(at::kCPU), Eagerly(eager, step).to(at::kCPU));
    }
    // Other numbers of tokens go to other kernels.
    for (const std::vector<int>& counts : std::vector<std::vector<int>>{
             {40}, {1, 1, 30, 1}, {1, 3, 1, 2, 1, 1, 4}, {30, 30, 30, 1, 1}, {2}}) {
      const StepIndices step = TinyStep(counts, before).indices();
      const StepGraphs::Tensors outputs = graphs->Run(step);
      const std::string where = "a graph with prompts, " + std::to_string(step.size().tokens) +
                                " tokens, step " + std::to_string(before);
      Expect(!outputs.empty(), where + " is replayed");
      if (outputs.empty()) continue;
      ExpectClose(where, outputs[0], Eagerly(eager, step), /*slack=*/2000);  // bf16 inside
    }
  }
  Expect(graphs->Run(DecodeStep(9, 0)).empty(), "a step of more rows than were captured is not");
  ExpectClose("graphs, keys", mine.Keys(), eager.Keys(), 2);
  ExpectClose("graphs, values", mine.Values(), eager.Values(), 2);
}

// A step that waits for the device cannot be captured. Of `only_prompts`, those that can be are
// replayed; else all run eagerly.
void CompareFailure(bool only_prompts) {
  const TinyDecoder decoder = OnGpu();
  const auto graphs = Graphs([&](const StepGraphs::Tensors& inputs) {
    const at::Tensor logits = decoder.Forward(inputs);
    const bool decodes = inputs[kRowStartsArray].numel() == inputs[kTokensArray].numel() + 1;
    if (decodes && only_prompts) return StepGraphs::Tensors{logits};
    return StepGraphs::Tensors{logits * logits.abs().max().item<float>()};
  });
  graphs->Capture(4, TinyDecoder::kSlots);
  for (int before = 0; before < 3; ++before) {
    Expect(graphs->Run(DecodeStep(2, before)).empty() != only_prompts,
           "after a failed capture decode steps run eagerly, unless only prompts failed");
    Expect(graphs->Run(TinyStep({20, 1}, before).indices()).empty(),
           "a step that cannot be captured runs eagerly");
    Expect(at::isfinite(Eagerly(decoder, DecodeStep(2, before))).all().item<bool>(),
           "the device works after a failed capture");
  }
}

}  // namespace

void CompareStepGraphs() {
  CompareSteps();
  CompareFailure(/*only_prompts=*/false);
  CompareFailure(/*only_prompts=*/true);
}

}  // namespace idefics::test
