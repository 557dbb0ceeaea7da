// SPDX-License-Identifier: Apache-2.0
// Measures how many threads run the CPU's linears fastest. The number of virtual cores does not say
// it: two of them may be one core's hyperthreads, or shared with another machine.
#pragma once

namespace idefics {

// Multiplies one row and 16 rows with 48 MiB of int8 weights on all cores, half of them, … and one,
// and compares the CPU time that each thread needs. Returns the largest number of threads that is
// within 15 % of the best for either: one row is bound by the memory, which fewer threads may
// saturate, pictures and prompts by arithmetic. Leaves libtorch's thread count at it. Takes about a
// fifth of a second.
int AutotuneThreads();

}  // namespace idefics
