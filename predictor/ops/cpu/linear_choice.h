// SPDX-License-Identifier: Apache-2.0
// Which kernels of the linears belong to which instruction set. Needs no torch. Thread safe.
#pragma once

#include <vector>

#include "predictor/ops/cpu/instruction_sets.h"
#include "predictor/ops/cpu/linear_kernels.h"

namespace idefics {

// Null: there are none. REQUIRES: the CPU has the set.
const LinearKernels* LinearKernelsFor(const InstructionSet& set);

// The kernels that this CPU runs, best first.
std::vector<const LinearKernels*> UsableLinearKernels();

}  // namespace idefics
