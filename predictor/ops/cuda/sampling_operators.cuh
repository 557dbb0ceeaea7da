// SPDX-License-Identifier: Apache-2.0
// sample_tokens and gather_last_tokens on tensors.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "predictor/ops/cuda/gather_last_tokens.cuh"
#include "predictor/ops/cuda/on_device.cuh"
#include "predictor/ops/cuda/sample_tokens.cuh"
#include "predictor/ops/reference/sampling.h"

namespace idefics::IDEFICS_TARGET {

// A row whose tokens are not inside `history` gets kNoToken.
inline at::Tensor SampleTokens(at::Tensor logits, const at::Tensor& sampling_params,
                               at::Tensor history) {
  CheckSampleTokens(logits, sampling_params, history);
  TORCH_CHECK(logits.size(1) <= kMaxDeviceVocab, "sample_tokens takes vocabularies of up to ",
              kMaxDeviceVocab, " tokens, not ", logits.size(1));
  const OnDevice device(logits);
  at::Tensor out = at::empty({logits.size(0)}, sampling_params.options());
  LaunchSampleTokens({.logits = logits.data_ptr<float>(),
                      .sampling_params = sampling_params.const_data_ptr<int32_t>(),
                      .history = history.data_ptr<int32_t>(),
                      .out = out.data_ptr<int32_t>(),
                      .rows = static_cast<int>(logits.size(0)),
                      .vocab = static_cast<int>(logits.size(1)),
                      .slots = history.numel()},
                     device.stream());
  device.CheckLaunch();
  return out;
}

inline at::Tensor GatherLastTokens(const at::Tensor& tokens, const at::Tensor& kv_slots,
                                   at::Tensor history) {
  CheckGatherLastTokens(tokens, kv_slots, history);
  const OnDevice device(tokens);
  at::Tensor out = at::empty({tokens.numel()}, tokens.options());
  LaunchGatherLastTokens({.tokens = tokens.const_data_ptr<int32_t>(),
                          .kv_slots = kv_slots.const_data_ptr<int32_t>(),
                          .history = history.data_ptr<int32_t>(),
                          .out = out.data_ptr<int32_t>(),
                          .count = static_cast<int>(tokens.numel())},
                         device.stream());
  device.CheckLaunch();
  return out;
}

}  // namespace idefics::IDEFICS_TARGET
