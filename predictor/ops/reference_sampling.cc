// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/reference_sampling.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cstring>
#include <span>

#include "predictor/sampling/row_choice.h"

namespace idefics {
namespace {

void CheckIntegers(const at::Tensor& tensor, const at::Tensor& like, const char* what) {
  TORCH_CHECK(tensor.scalar_type() == at::kInt && tensor.is_contiguous() &&
                  tensor.device() == like.device(),
              what, " must be contiguous i32 on ", like.device(), ", not ", tensor.scalar_type(),
              " on ", tensor.device());
}

void CheckRow(const RowChoice& choice, int64_t row, int64_t slots) {
  TORCH_CHECK(choice.mode == ChoiceMode::kGreedy || choice.mode == ChoiceMode::kSample, "row ", row,
              " has the unknown mode ", static_cast<int32_t>(choice.mode));
  TORCH_CHECK(choice.banned_count >= 0 && choice.banned_count <= RowChoice::kMaxBanned, "row ", row,
              " bans ", choice.banned_count, " tokens, not 0 to ", RowChoice::kMaxBanned);
  TORCH_CHECK(choice.history_start >= 0 && choice.history_length >= 0 &&
                  int64_t{choice.history_start} + choice.history_length < slots,
              "row ", row, " has ", choice.history_length, " tokens from slot ",
              choice.history_start, " on and needs a slot behind them, but there are ", slots,
              " slots");
}

// history: all slots.
int32_t ChooseRow(const RowChoice& choice, std::span<float> scores, std::span<int32_t> history) {
  const auto tokens = history.subspan(choice.history_start, choice.history_length);
  const int32_t token = ChooseToken(choice, tokens, scores);
  if (token >= 0) history[choice.history_start + choice.history_length] = token;
  return token;
}

}  // namespace

void CheckChooseTokens(const at::Tensor& logits, const at::Tensor& choices,
                       const at::Tensor& history) {
  TORCH_CHECK(logits.scalar_type() == at::kFloat && logits.is_contiguous() && logits.dim() == 2 &&
                  logits.size(1) > 0,
              "logits must be contiguous f32 [rows, vocab], not ", logits.scalar_type(), " ",
              logits.sizes());
  CheckIntegers(choices, logits, "choices");
  CheckIntegers(history, logits, "history");
  TORCH_CHECK(
      choices.dim() == 2 && choices.size(0) == logits.size(0) && choices.size(1) == kRowChoiceWords,
      "choices must be [", logits.size(0), ", ", kRowChoiceWords, "], not ", choices.sizes());
}

void CheckTakeTokens(const at::Tensor& tokens, const at::Tensor& kv_slots,
                     const at::Tensor& history) {
  CheckIntegers(tokens, history, "tokens");
  CheckIntegers(kv_slots, history, "kv_slots");
  CheckIntegers(history, history, "history");
  TORCH_CHECK(tokens.dim() == 1 && kv_slots.numel() == tokens.numel(), "there are ",
              kv_slots.numel(), " kv_slots for ", tokens.numel(), " tokens");
}

namespace reference {

at::Tensor ChooseTokens(at::Tensor logits, const at::Tensor& choices, at::Tensor history) {
  CheckChooseTokens(logits, choices, history);
  const at::Tensor scores = logits.to(at::kCPU);
  const at::Tensor rows = choices.to(at::kCPU);
  const at::Tensor slots = history.to(at::kCPU);
  const at::Tensor out = at::empty({logits.size(0)}, rows.options());
  const auto vocab = static_cast<size_t>(logits.size(1));
  const std::span<int32_t> all(slots.data_ptr<int32_t>(), static_cast<size_t>(slots.numel()));
  for (int64_t row = 0; row < logits.size(0); ++row) {
    RowChoice choice;
    std::memcpy(static_cast<void*>(&choice), rows.const_data_ptr<int32_t>() + row * kRowChoiceWords,
                sizeof(choice));
    int32_t token = kNotChosen;
    if (choice.mode != ChoiceMode::kNone) {
      CheckRow(choice, row, slots.numel());
      token = ChooseRow(choice, {scores.data_ptr<float>() + row * vocab, vocab}, all);
    }
    out.data_ptr<int32_t>()[row] = token;
  }
  if (!logits.is_cpu()) {
    logits.copy_(scores);
    history.copy_(slots);
  }
  return out.to(logits.device());
}

at::Tensor TakeTokens(const at::Tensor& tokens, const at::Tensor& kv_slots, at::Tensor history) {
  CheckTakeTokens(tokens, kv_slots, history);
  const at::Tensor given = tokens.to(at::kCPU);
  const at::Tensor places = kv_slots.to(at::kCPU);
  const at::Tensor slots = history.to(at::kCPU);
  const at::Tensor out = at::empty({tokens.numel()}, given.options());
  for (int64_t t = 0; t < tokens.numel(); ++t) {
    const int32_t slot = places.const_data_ptr<int32_t>()[t];
    TORCH_CHECK(slot >= 0 && slot < slots.numel(), "token ", t, " has the slot ", slot,
                ", but there are ", slots.numel(), " slots");
    const int32_t token = given.const_data_ptr<int32_t>()[t];
    int32_t& held = slots.data_ptr<int32_t>()[slot];
    if (token >= 0) held = token;
    out.data_ptr<int32_t>()[t] = held;
  }
  if (!history.is_cpu()) history.copy_(slots);
  return out.to(history.device());
}

}  // namespace reference
}  // namespace idefics
