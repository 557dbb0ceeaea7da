// SPDX-License-Identifier: Apache-2.0
// The bandwidth of reading alone, against which a decode step is measured.
#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randint.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

#include "tests/gpu/gpu_checks.h"

namespace idefics::test {
namespace {

constexpr int kThreads = 512;
constexpr int kLoads = 8;  // of 16 bytes, in flight in every thread

// Folds everything into one number, so that no load can be left out.
__global__ void ReadAll(const uint4* data, int64_t count, uint32_t* out) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  uint32_t folded = 0;
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; at < count;
       at += stride * kLoads) {
    uint4 values[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int64_t mine = at + i * stride;
      values[i] = mine < count ? __ldcs(data + mine) : uint4{};
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      folded ^= values[i].x ^ values[i].y ^ values[i].z ^ values[i].w;
    }
  }
  if (folded == 0x12345678u) *out = folded;
}

double Measure() {
  constexpr int64_t kBytes = int64_t{4} << 30;
  const auto options = at::TensorOptions(at::kCUDA).dtype(at::kInt);
  const at::Tensor data = at::randint(0, 1 << 30, {kBytes / 4}, options);
  const at::Tensor out = at::empty({1}, options);
  const int blocks = at::cuda::getCurrentDeviceProperties()->multiProcessorCount * 16;
  const double us = Microseconds(4, [&](int) {
    ReadAll<<<blocks, kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        reinterpret_cast<const uint4*>(data.const_data_ptr<int32_t>()), kBytes / 16,
        reinterpret_cast<uint32_t*>(out.data_ptr<int32_t>()));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return static_cast<double>(kBytes) / us / 1000;
}

}  // namespace

double ReadBandwidth() {
  static const double measured = Measure();
  return measured;
}

}  // namespace idefics::test
