// SPDX-License-Identifier: Apache-2.0
// choose_tokens and take_tokens on tensors.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "predictor/ops/cuda/choose_tokens.cuh"
#include "predictor/ops/cuda/on_device.cuh"
#include "predictor/ops/cuda/take_tokens.cuh"
#include "predictor/ops/reference_sampling.h"

namespace idefics::IDEFICS_TARGET {

// A row whose history does not lie inside of `history` gets kNotChosen.
inline at::Tensor ChooseTokens(at::Tensor logits, const at::Tensor& choices, at::Tensor history) {
  CheckChooseTokens(logits, choices, history);
  TORCH_CHECK(logits.size(1) <= kMaxChoiceVocab, "choose_tokens takes vocabularies of up to ",
              kMaxChoiceVocab, " tokens, not ", logits.size(1));
  const OnDevice device(logits);
  at::Tensor out = at::empty({logits.size(0)}, choices.options());
  LaunchChooseTokens({.logits = logits.data_ptr<float>(),
                      .choices = choices.const_data_ptr<int32_t>(),
                      .history = history.data_ptr<int32_t>(),
                      .out = out.data_ptr<int32_t>(),
                      .rows = static_cast<int>(logits.size(0)),
                      .vocab = static_cast<int>(logits.size(1)),
                      .slots = history.numel()},
                     device.stream());
  device.CheckLaunch();
  return out;
}

inline at::Tensor TakeTokens(const at::Tensor& tokens, const at::Tensor& kv_slots,
                             at::Tensor history) {
  CheckTakeTokens(tokens, kv_slots, history);
  const OnDevice device(tokens);
  at::Tensor out = at::empty({tokens.numel()}, tokens.options());
  LaunchTakeTokens({.tokens = tokens.const_data_ptr<int32_t>(),
                    .kv_slots = kv_slots.const_data_ptr<int32_t>(),
                    .history = history.data_ptr<int32_t>(),
                    .out = out.data_ptr<int32_t>(),
                    .count = static_cast<int>(tokens.numel())},
                   device.stream());
  device.CheckLaunch();
  return out;
}

}  // namespace idefics::IDEFICS_TARGET
