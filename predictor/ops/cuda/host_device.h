// SPDX-License-Identifier: Apache-2.0
// What a kernel needs from its compiler. Under nvcc that is CUDA itself, in namespace
// idefics::cuda. Under a C++ compiler the emulator (cuda_emulator.h) supplies the same names in
// namespace idefics::host_cuda, so that every kernel is tested on machines without a GPU. Two
// namespaces keep both builds apart in one process.
#pragma once

#ifdef __CUDACC__

#include <cuda_runtime.h>

#define IDEFICS_TARGET cuda

namespace idefics::cuda {

using Stream = cudaStream_t;

// Runs `kernel` on grid × threads; threads is a multiple of 32.
template <typename... Parameters>
void Launch(void (*kernel)(Parameters...), dim3 grid, unsigned threads, Stream stream,
            Parameters... arguments) {
  kernel<<<grid, threads, 0, stream>>>(arguments...);
}

}  // namespace idefics::cuda

#else

#include <math.h>

#include "predictor/ops/cuda/cuda_emulator.h"

#define IDEFICS_TARGET host_cuda
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static  // one block runs at a time

namespace idefics::host_cuda {

struct Stream {};

template <typename... Parameters>
void Launch(void (*kernel)(Parameters...), dim3 grid, unsigned threads, Stream,
            Parameters... arguments) {
  RunBlocks(grid, threads, [&] { kernel(arguments...); });
}

}  // namespace idefics::host_cuda

#endif
