// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/reference/sampling.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cstring>
#include <span>
#include <vector>

#include "predictor/sampling/device_sampling.h"

namespace idefics {
namespace {

void CheckIntegers(const at::Tensor& tensor, const at::Tensor& like, const char* what) {
  TORCH_CHECK(tensor.scalar_type() == at::kInt && tensor.is_contiguous() &&
                  tensor.device() == like.device(),
              what, " must be contiguous i32 on ", like.device(), ", not ", tensor.scalar_type(),
              " on ", tensor.device());
}

void CheckRow(const DeviceSamplingParams& params, int64_t row, int64_t slots) {
  TORCH_CHECK(params.mode == SamplingMode::kGreedy || params.mode == SamplingMode::kSample, "row ",
              row, " has the unknown mode ", static_cast<int32_t>(params.mode));
  TORCH_CHECK(params.banned_count >= 0 && params.banned_count <= DeviceSamplingParams::kMaxBanned,
              "row ", row, " bans ", params.banned_count, " tokens, not 0 to ",
              DeviceSamplingParams::kMaxBanned);
  const int64_t own = int64_t{params.history_length} - params.shared_length;
  TORCH_CHECK(params.history_start >= 0 && params.history_length >= 0 && own >= 0 &&
                  params.history_start + own < slots,
              "row ", row, " has ", own, " tokens from slot ", params.history_start,
              " on and needs a slot after them, but there are ", slots, " slots");
  TORCH_CHECK(params.shared_start >= 0 && params.shared_length >= 0 &&
                  int64_t{params.shared_start} + params.shared_length <= slots,
              "row ", row, " shares ", params.shared_length, " tokens from slot ",
              params.shared_start, " on, but there are ", slots, " slots");
  TORCH_CHECK(params.new_tokens >= 0 && params.new_tokens <= params.history_length, "row ", row,
              " has ", params.new_tokens, " new ones of ", params.history_length, " tokens");
}

// history: all slots.
int32_t SampleRow(const DeviceSamplingParams& params, std::span<float> scores,
                  std::span<int32_t> history) {
  const auto shared = history.subspan(params.shared_start, params.shared_length);
  const int32_t own_length = params.history_length - params.shared_length;
  const auto own = history.subspan(params.history_start, own_length);
  std::vector<int32_t> tokens(shared.begin(), shared.end());
  tokens.insert(tokens.end(), own.begin(), own.end());
  const int32_t token = SampleToken(params, tokens, scores);
  if (token >= 0) history[params.history_start + own_length] = token;
  return token;
}

}  // namespace

void CheckSampleTokens(const at::Tensor& logits, const at::Tensor& sampling_params,
                       const at::Tensor& history) {
  TORCH_CHECK(logits.scalar_type() == at::kFloat && logits.is_contiguous() && logits.dim() == 2 &&
                  logits.size(1) > 0,
              "logits must be contiguous f32 [rows, vocab], not ", logits.scalar_type(), " ",
              logits.sizes());
  CheckIntegers(sampling_params, logits, "sampling_params");
  CheckIntegers(history, logits, "history");
  TORCH_CHECK(sampling_params.dim() == 2 && sampling_params.size(0) == logits.size(0) &&
                  sampling_params.size(1) == kDeviceSamplingWords,
              "sampling_params must be [", logits.size(0), ", ", kDeviceSamplingWords, "], not ",
              sampling_params.sizes());
}

void CheckGatherLastTokens(const at::Tensor& tokens, const at::Tensor& kv_slots,
                           const at::Tensor& history) {
  CheckIntegers(tokens, history, "tokens");
  CheckIntegers(kv_slots, history, "kv_slots");
  CheckIntegers(history, history, "history");
  TORCH_CHECK(tokens.dim() == 1 && kv_slots.numel() == tokens.numel(), "there are ",
              kv_slots.numel(), " kv_slots for ", tokens.numel(), " tokens");
}

namespace reference {

at::Tensor SampleTokens(at::Tensor logits, const at::Tensor& sampling_params, at::Tensor history) {
  CheckSampleTokens(logits, sampling_params, history);
  const at::Tensor scores = logits.to(at::kCPU);
  const at::Tensor rows = sampling_params.to(at::kCPU);
  const at::Tensor slots = history.to(at::kCPU);
  const at::Tensor out = at::empty({logits.size(0)}, rows.options());
  const auto vocab = static_cast<size_t>(logits.size(1));
  const std::span<int32_t> all(slots.data_ptr<int32_t>(), static_cast<size_t>(slots.numel()));
  for (int64_t row = 0; row < logits.size(0); ++row) {
    DeviceSamplingParams params;
    std::memcpy(static_cast<void*>(&params),
                rows.const_data_ptr<int32_t>() + row * kDeviceSamplingWords, sizeof(params));
    int32_t token = kNoToken;
    if (params.mode != SamplingMode::kNone) {
      CheckRow(params, row, slots.numel());
      token = SampleRow(params, {scores.data_ptr<float>() + row * vocab, vocab}, all);
    }
    out.data_ptr<int32_t>()[row] = token;
  }
  if (!logits.is_cpu()) {
    logits.copy_(scores);
    history.copy_(slots);
  }
  return out.to(logits.device());
}

at::Tensor GatherLastTokens(const at::Tensor& tokens, const at::Tensor& kv_slots,
                            at::Tensor history) {
  CheckGatherLastTokens(tokens, kv_slots, history);
  const at::Tensor given = tokens.to(at::kCPU);
  const at::Tensor slot_of = kv_slots.to(at::kCPU);
  const at::Tensor slots = history.to(at::kCPU);
  const at::Tensor out = at::empty({tokens.numel()}, given.options());
  for (int64_t t = 0; t < tokens.numel(); ++t) {
    const int32_t slot = slot_of.const_data_ptr<int32_t>()[t];
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
