// SPDX-License-Identifier: Apache-2.0
// The kernels of AMX with the arithmetic of its tiles written out, for CPUs that lack it.
#pragma once

#include "predictor/ops/cpu/linear_kernels.h"

namespace idefics::test {

// Of int8 and int4 only.
LinearKernels EmulatedAmxKernels();

}  // namespace idefics::test
