// SPDX-License-Identifier: Apache-2.0
// The versions of the idefics:: operators under test, each as one table of functions.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <tuple>

namespace idefics::test {

struct Operators {
  std::string name;
  at::Tensor (*rms_norm)(const at::Tensor& x, const at::Tensor& weight, double eps);
  std::tuple<at::Tensor, at::Tensor> (*add_norm)(const at::Tensor& x, const at::Tensor& y,
                                                 const std::optional<at::Tensor>& gate,
                                                 const at::Tensor& weight, double eps);
  at::Tensor (*rope_write)(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
                           const at::Tensor& kv_slots, at::Tensor k_cache, at::Tensor v_cache);
  at::Tensor (*attend)(const at::Tensor& q, const at::Tensor& k_cache, const at::Tensor& v_cache,
                       const at::Tensor& row_starts, const at::Tensor& kv_starts,
                       const at::Tensor& kv_lengths);
  at::Tensor (*attend_image)(const at::Tensor& q, const at::Tensor& image_k,
                             const at::Tensor& image_v, const at::Tensor& image_slots);
  at::Tensor (*swiglu)(const at::Tensor& gate_up);
  at::Tensor (*linear_packed)(const at::Tensor& x, const at::Tensor& weight, int64_t n);
  at::Tensor (*linear_int8)(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                            int64_t n);
  at::Tensor (*linear_int4)(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                            int64_t n);
  at::Tensor (*sample_tokens)(at::Tensor logits, const at::Tensor& sampling_params,
                              at::Tensor history);
  at::Tensor (*gather_last_tokens)(const at::Tensor& tokens, const at::Tensor& kv_slots,
                                   at::Tensor history);
};

Operators ReferenceOperators();

// What TorchScript calls: the registered version of the tensors' device.
Operators RegisteredOperators();

// The CUDA kernels, compiled for the host; see predictor/ops/cuda/host_device.h. Not thread safe.
Operators HostCudaOperators();

// How many processors HostCudaOperators' attend believes in: more of them split the keys further.
void SetHostProcessors(int processors);

// Whether fibers and blocks take their turns backwards.
void SetScheduleBackward(bool backward);

}  // namespace idefics::test
