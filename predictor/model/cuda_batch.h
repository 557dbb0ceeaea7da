// SPDX-License-Identifier: Apache-2.0
// The shapes in which decode steps are captured as CUDA graphs, and the padding of a step to one of
// them. Pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "predictor/model/step_indices.h"

namespace idefics {

// Fewer rows are padded to the next of these: docs/performance.md#cuda-graphs.
inline constexpr std::array kGraphRows{1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 160, 192, 256};

// Those that steps of up to `most_rows` rows take, ascending.
std::vector<int> GraphSizes(int most_rows);

// Rows of the smallest graph that holds this step; 0 where the step runs eagerly: a row has more
// than one token or wants no logits, or the step has more rows than the largest graph.
int GraphRows(const StepIndices& step);

// Numbers in each of kStepArrays for a step of `rows` decode rows.
std::array<int64_t, kStepArrays.size()> GraphInputSizes(int64_t rows);

// kStepArrays of a step of `rows` rows, concatenated: GraphInputSizes. Rows beyond the step's own
// decode token 0 without image or past into `scratch_slot`, which belongs to no sequence, and
// sample nothing. REQUIRES: rows > 0, and the step has no more. A step without rows: all are
// padded.
std::vector<int32_t> GraphInput(const StepIndices& step, int rows, int32_t scratch_slot);

}  // namespace idefics
