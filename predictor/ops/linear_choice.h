// SPDX-License-Identifier: Apache-2.0
// Which kernels this CPU runs.
#pragma once

#include <vector>

#include "predictor/ops/linear_kernels.h"

namespace idefics {

// Those that this CPU runs, best first.
std::vector<const LinearKernels*> UsableLinearKernels();

// The best one; IDEFICS_CPU=avx512|avx2|portable asks for a lesser one.
const LinearKernels& ChooseLinearKernels();

}  // namespace idefics
