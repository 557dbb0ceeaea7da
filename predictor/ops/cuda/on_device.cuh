// SPDX-License-Identifier: Apache-2.0
// The device and stream on which an operator runs, and the checks that all operators share.
#pragma once

#include <ATen/core/Tensor.h>

#include "predictor/ops/cuda/host_device.h"
#include "predictor/ops/packed_weight.h"

#ifdef __CUDACC__
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#endif

namespace idefics::IDEFICS_TARGET {

// Makes the tensor's device current while it lives.
#ifdef __CUDACC__
class OnDevice {
 public:
  explicit OnDevice(const at::Tensor& tensor) : guard_(tensor.device()) {}

  Stream stream() const { return c10::cuda::getCurrentCUDAStream(); }
  int processors() const { return at::cuda::getCurrentDeviceProperties()->multiProcessorCount; }
  bool supports_fp8() const {
    const cudaDeviceProp& chip = *at::cuda::getCurrentDeviceProperties();
    return SupportsFp8(chip.major, chip.minor);
  }
  void CheckLaunch() const { C10_CUDA_KERNEL_LAUNCH_CHECK(); }

 private:
  c10::cuda::CUDAGuard guard_;
};
#else
// The host has no device. Tests set how many processors the split attention counts on, and whether
// they multiply fp8.
inline int host_processors = 1;
inline bool host_supports_fp8 = true;

class OnDevice {
 public:
  explicit OnDevice(const at::Tensor& /*tensor*/) {}

  Stream stream() const { return {}; }
  int processors() const { return host_processors; }
  bool supports_fp8() const { return host_supports_fp8; }
  void CheckLaunch() const {}
};
#endif

inline void CheckIndices(const at::Tensor& indices, const at::Tensor& like, int64_t count) {
  TORCH_CHECK(indices.scalar_type() == at::kInt && indices.is_contiguous() &&
                  indices.device() == like.device() && indices.numel() == count,
              "indices must be ", count, " contiguous i32 on the tensors' device, not ",
              indices.numel(), " ", indices.scalar_type(), " on ", indices.device());
}

// Both of one dtype and device, and contiguous.
inline void CheckAlike(const at::Tensor& first, const at::Tensor& other) {
  TORCH_CHECK(first.scalar_type() == other.scalar_type() && first.device() == other.device() &&
                  first.is_contiguous() && other.is_contiguous(),
              "tensors must be contiguous, of one dtype and device, not ", first.scalar_type(),
              " and ", other.scalar_type());
}

}  // namespace idefics::IDEFICS_TARGET
