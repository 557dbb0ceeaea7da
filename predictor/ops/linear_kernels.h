// SPDX-License-Identifier: Apache-2.0
// y = x wᵀ + bias on the CPU, straight from the checkpoint's row-major weights (no packed copy, so
// a mapped file is enough). Every output is one sum over k in one fixed order, whatever M is: a
// row's result does not depend on its neighbours, bit for bit. Versions for several instruction
// sets, chosen at run time.
#pragma once

#include <cstdint>

namespace idefics {

// x [m, k], w [n, k], bias [n] or null, y [m, n]; all dense rows of one element type.
struct LinearArguments {
  const void* x = nullptr;
  const void* w = nullptr;
  const void* bias = nullptr;
  void* y = nullptr;
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
};

// Computes the columns n_begin … n_end-1 of y. Thread safe for disjoint columns.
using LinearKernel = void (*)(const LinearArguments&, int64_t n_begin, int64_t n_end);

struct LinearKernels {
  const char* name;  // "avx512bf16", "avx512", "avx2", "portable"
  LinearKernel f32;
  LinearKernel bf16;
};

// One set for each instruction set. REQUIRES: the CPU has it; all but the portable one exist on
// x86-64 only.
const LinearKernels* LinearKernelsAvx512Bf16();
const LinearKernels* LinearKernelsAvx512();
const LinearKernels* LinearKernelsAvx2();
const LinearKernels* LinearKernelsPortable();

// The best set that this CPU runs; IDEFICS_CPU=avx512|avx2|portable asks for a lesser one.
const LinearKernels& ChooseLinearKernels();

}  // namespace idefics
