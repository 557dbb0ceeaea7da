// SPDX-License-Identifier: Apache-2.0
// The shapes in which decode steps are captured as CUDA graphs, and the filling up of a step to one
// of them. Pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "predictor/model/step_indices.h"

namespace idefics {

// The rows of the smallest graph for this step; 0 where it runs eagerly: a row has more than one
// token or wants no logits, or there are more rows than the largest graph has.
int GraphRows(const StepIndices& step);

// Numbers in each array of a step of `rows` decode rows, in the order of StepIndices (choices
// as kRowChoiceWords words each).
std::array<int64_t, 9> GraphInputSizes(int64_t rows);

// The arrays of a step of `rows` rows behind each other: GraphInputSizes. Rows beyond the step's
// own decode token 0 without image or past into `scratch_slot`, which belongs to no sequence, and
// choose nothing.
// REQUIRES: rows == GraphRows(step) > 0.
std::vector<int32_t> GraphInput(const StepIndices& step, int rows, int32_t scratch_slot);

}  // namespace idefics
