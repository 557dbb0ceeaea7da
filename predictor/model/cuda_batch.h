// SPDX-License-Identifier: Apache-2.0
// The sizes in which steps are captured as CUDA graphs, and the padding of a step to one of them.
// Nothing in a step depends on the numbers in its index arrays, so that prompt pieces and decode
// rows share one graph: docs/performance.md#cuda-graphs. Pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "predictor/model/step_indices.h"

namespace idefics {

// Rows of the graphs of plain decode steps: one token a row, each followed by logits.
inline constexpr std::array kGraphRows{1,   2,   4,   8,   16,  32,  48,  64, 96,
                                       128, 160, 192, 256, 320, 384, 448, 512};

// Tokens of the graphs of other steps. More keep the device busy for longer than the host needs to
// start them.
inline constexpr std::array kGraphTokens{16, 32, 48, 64, 96, 128, 160, 192};

// All sizes to capture for steps of up to `most_rows` rows over an arena of `kv_tokens` slots, in
// the order of capture: those of plain decode steps, then the others, each the largest first.
std::vector<StepSize> GraphSizes(int most_rows, int64_t kv_tokens);

// The smallest that holds the step. None: it has no rows, or too many of something.
std::optional<StepSize> GraphSizeOf(const StepIndices& step);

// Numbers in each of kStepArrays for a step of this size.
std::array<int64_t, kStepArrays.size()> GraphInputSizes(const StepSize& size);

// kStepArrays of the step, padded to size `whole` and concatenated: GraphInputSizes. What is beyond
// the step's own decodes token 0 without image or past into `scratch_slot`, which belongs to no
// sequence, and samples nothing. REQUIRES: the step fits. A step without rows: all is padding.
std::vector<int32_t> GraphInput(const StepIndices& step, const StepSize& whole,
                                int32_t scratch_slot);

}  // namespace idefics
