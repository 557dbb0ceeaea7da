// SPDX-License-Identifier: Apache-2.0
// How many threads the CPU's linears run fastest with: measured, because the second of two virtual
// cores may be a core, half of one, or lent to somebody else.
#pragma once

namespace idefics {

// Times one row times 48 MiB of int8 weights with all cores, half of them, … and one; the largest
// number within 15 % of the best. About a tenth of a second. Leaves libtorch's thread count
// changed.
int ProbeThreads();

}  // namespace idefics
