// SPDX-License-Identifier: Apache-2.0
// Steps padded to the size of a CUDA graph, computed on the host: what belongs to the step is as
// without padding.
#include <ATen/ATen.h>

#include <catch2/catch_test_macros.hpp>
#include <string>
#include <vector>

#include "predictor/model/cuda_batch.h"
#include "tests/model/ragged_step.h"
#include "tests/model/tiny_decoder.h"

namespace idefics::test {
namespace {

const std::vector<std::vector<int>> kSteps{
    {1},  // plain decode
    {1, 1, 1},
    {4},                    // guesses
    {2},                    // a guess
    {40},                   // one prompt
    {5, 45},                // nothing to pad but rows
    {1, 1, 30, 1},          // a piece beside decode rows
    {1, 3, 1, 2, 1, 1, 4},  // guesses of some
    {30, 30, 30, 30, 30, 1, 1},
    {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 40},  // many rows
    {40, 40, 40, 40, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
};

std::vector<at::Tensor> PaddedInputs(const StepIndices& step, const StepSize& whole) {
  const at::Tensor all =
      at::tensor(GraphInput(step, whole, TinyDecoder::kScratch), at::TensorOptions(at::kInt));
  const auto sizes = GraphInputSizes(whole);
  std::vector<at::Tensor> inputs = all.split_with_sizes({sizes.begin(), sizes.end()});
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (kStepArrays[i].columns > 1) inputs[i] = inputs[i].view({-1, kStepArrays[i].columns});
  }
  return inputs;
}

// In a larger graph than the step would take, too.
std::vector<StepSize> Sizes(const StepIndices& step) {
  const std::optional<StepSize> least = GraphSizeOf(step);
  REQUIRE(least.has_value());
  return {*least, {48, 256, 256}};
}

TEST_CASE("a padded step computes and writes what the step itself does", "[step_padding]") {
  for (const Operators& operators : {RegisteredOperators(), HostCudaOperators()}) {
    for (const std::vector<int>& counts : kSteps) {
      const StepIndices step = TinyStep(counts, /*before=*/3).indices();
      for (const StepSize& whole : Sizes(step)) {
        INFO(operators.name << ": " << step.size().tokens << " tokens in " << step.size().rows
                            << " rows, padded to " << whole.tokens << " in " << whole.rows);
        const TinyDecoder padded(operators, at::kCPU), alone(operators, at::kCPU);
        const at::Tensor logits = padded.Forward(PaddedInputs(step, whole));
        REQUIRE(logits.size(0) == whole.samples);
        const at::Tensor mine = logits.narrow(0, 0, step.size().samples);
        const at::Tensor truth = alone.Forward(EagerInputs(step, at::kCPU));
        CHECK(at::isfinite(logits).all().item<bool>());
        // Of the caches no slot but the step's own and the scratch slot.
        if (operators.name == "registered") {  // a token's bits do not depend on the others
          CHECK(at::equal(mine, truth));
          CHECK(at::equal(padded.Keys(), alone.Keys()));
          CHECK(at::equal(padded.Values(), alone.Values()));
        } else {  // more tokens go to another kernel
          const double largest = truth.abs().max().item<double>();
          CHECK((mine - truth).abs().max().item<double>() <= largest * 0x1p-7);
          CHECK(Compare(padded.Keys(), alone.Keys()).largest <= 1);
          CHECK(Compare(padded.Values(), alone.Values()).largest <= 1);
        }
      }
    }
  }
}

}  // namespace
}  // namespace idefics::test
