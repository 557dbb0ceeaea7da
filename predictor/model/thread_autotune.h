// SPDX-License-Identifier: Apache-2.0
// Measures how many threads run the CPU's linears fastest. The number of virtual cores does not say
// it: two of them may be one core's hyperthreads, or shared with another machine.
#pragma once

namespace idefics {

// Times the product of one row with 48 MiB of int8 weights on all cores, half of them, … and one.
// Returns the largest number of threads that is within 15 % of the best time, and leaves libtorch's
// thread count at it. Takes about a tenth of a second.
int AutotuneThreads();

}  // namespace idefics
