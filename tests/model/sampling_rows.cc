// SPDX-License-Identifier: Apache-2.0
#include "tests/model/sampling_rows.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>
#include <random>
#include <span>

namespace idefics::test {
namespace {

constexpr int32_t kEmptySlot = -7;

DeviceSamplingParams Sample() {
  DeviceSamplingParams params;
  params.mode = SamplingMode::kSample;
  return params;
}

// The params itself, then each limit moved both ways by what rounding may do.
std::vector<DeviceSamplingParams> Neighbours(const DeviceSamplingParams& params) {
  std::vector<DeviceSamplingParams> all{params};
  for (const double step : {-1e-6, 1e-6}) {
    DeviceSamplingParams next = params;
    next.uniform = std::min(std::max(params.uniform + step, 0.0), std::nextafter(1.0, 0.0));
    all.push_back(next);
    next = params;
    next.top_p = params.top_p + 3 * step;
    all.push_back(next);
    next = params;
    next.min_p = static_cast<float>(params.min_p * (1 + step));
    all.push_back(next);
    next = params;
    next.typical_p = static_cast<float>(params.typical_p + 10 * step);
    all.push_back(next);
  }
  return all;
}

std::span<const float> RowOf(const at::Tensor& logits, int64_t row) {
  const auto vocab = static_cast<size_t>(logits.size(1));
  return {logits.const_data_ptr<float>() + row * logits.size(1), vocab};
}

bool SameRemoved(std::span<const float> a, std::span<const float> b) {
  return std::equal(a.begin(), a.end(), b.begin(),
                    [](float x, float y) { return std::isinf(x) == std::isinf(y); });
}

}  // namespace

std::vector<NamedParams> AllParams() {
  std::vector<NamedParams> all;
  const auto add = [&](const char* name, const auto& change,
                       DeviceSamplingParams params = Sample()) {
    change(params);
    all.push_back({name, params});
  };
  add("greedy", [](DeviceSamplingParams& c) { c.mode = SamplingMode::kGreedy; });
  add("plain", [](DeviceSamplingParams&) {});
  add("temperature", [](DeviceSamplingParams& c) { c.temperature = 0.7f; });
  add("top_k 50", [](DeviceSamplingParams& c) { c.top_k = 50; });
  add("top_k 2", [](DeviceSamplingParams& c) { c.top_k = 2; });
  add("top_p 0.9", [](DeviceSamplingParams& c) { c.top_p = 0.9; });
  add("top_p 0.3", [](DeviceSamplingParams& c) { c.top_p = 0.3; });
  add("min_p", [](DeviceSamplingParams& c) { c.min_p = 0.05f; });
  add("typical_p 0.8", [](DeviceSamplingParams& c) { c.typical_p = 0.8f; });
  add("typical_p 0.2", [](DeviceSamplingParams& c) { c.typical_p = 0.2f; });
  const auto penalties = [](DeviceSamplingParams& c) {
    c.repetition_penalty = 1.3f;
    c.presence_penalty = 0.3f;
    c.frequency_penalty = 0.7f;
    c.no_repeat_ngram_size = 2;
    c.banned_count = 3;
    c.banned[0] = 0;
    c.banned[1] = 3;
    c.banned[2] = 1 << 20;  // no token
  };
  add("repetition_penalty", [](DeviceSamplingParams& c) { c.repetition_penalty = 1.5f; });
  add("no_repeat_ngram 1", [](DeviceSamplingParams& c) { c.no_repeat_ngram_size = 1; });
  add("no_repeat_ngram 3", [](DeviceSamplingParams& c) { c.no_repeat_ngram_size = 3; });
  add("presence_penalty", [](DeviceSamplingParams& c) { c.presence_penalty = 1.1f; });
  add("frequency_penalty", [](DeviceSamplingParams& c) { c.frequency_penalty = -0.3f; });
  add("greedy with penalties", [&](DeviceSamplingParams& c) {
    penalties(c);
    c.mode = SamplingMode::kGreedy;
  });
  add("top_k and top_p", [](DeviceSamplingParams& c) {
    c.temperature = 1.4f;
    c.top_k = 40;
    c.top_p = 0.8;
  });
  add("everything", [&](DeviceSamplingParams& c) {
    penalties(c);
    c.temperature = 0.8f;
    c.top_k = 30;
    c.top_p = 0.95;
    c.min_p = 0.02f;
    c.typical_p = 0.9f;
  });
  return all;
}

SamplingRows SamplingRows::To(at::Device device) const {
  return {logits.to(device, logits.scalar_type(), false, true),
          sampling_params.to(device, sampling_params.scalar_type(), false, true),
          history.to(device, history.scalar_type(), false, true)};
}

DeviceSamplingParams ParamsOf(const SamplingRows& rows, int64_t row) {
  DeviceSamplingParams params;
  std::memcpy(static_cast<void*>(&params),
              rows.sampling_params.const_data_ptr<int32_t>() + row * kDeviceSamplingWords,
              sizeof(params));
  return params;
}

void SetParams(const SamplingRows& rows, int64_t row, const DeviceSamplingParams& params) {
  std::memcpy(rows.sampling_params.data_ptr<int32_t>() + row * kDeviceSamplingWords, &params,
              sizeof(params));
}

int32_t SlotBehind(const DeviceSamplingParams& params) {
  return params.history_start + params.history_length - params.shared_length;
}

SamplingRows MakeRows(const std::vector<DeviceSamplingParams>& sampling_params, const RowKind& kind,
                      uint64_t seed) {
  const auto count = static_cast<int64_t>(sampling_params.size());
  const int stride = kind.history + 2;
  SamplingRows rows{at::empty({count, kind.vocab}, at::kFloat),
                    at::empty({count, kDeviceSamplingWords}, at::kInt),
                    at::full({count * stride}, kEmptySlot, at::kInt)};
  std::mt19937_64 random(seed);
  std::normal_distribution<float> logit(0, kind.spread);
  for (int64_t i = 0; i < rows.logits.numel(); ++i) {
    const float value = logit(random);
    rows.logits.data_ptr<float>()[i] = kind.ties ? std::round(value * 4) / 4 : value;
  }
  // Half of the history from a few tokens, so that words come again; some no token at all.
  std::uniform_int_distribution<int32_t> any(-1, kind.vocab), few(0, std::min(3, kind.vocab - 1));
  for (int64_t row = 0; row < count; ++row) {
    DeviceSamplingParams params = sampling_params[row];
    params.uniform = std::uniform_real_distribution<double>()(random);
    params.history_start = static_cast<int32_t>(row * stride);
    params.history_length = kind.history;
    params.new_tokens = kind.history / 2;
    params.shared_length = kind.shared ? kind.history / 3 : 0;
    const int own = kind.history - params.shared_length;
    if (kind.shared) params.shared_start = params.history_start + own + 2;
    for (int i = 0; i < stride; ++i) {
      if (i == own || i == own + 1) continue;  // the place of the sampled token, and a gap
      rows.history.data_ptr<int32_t>()[row * stride + i] = random() % 2 ? any(random) : few(random);
    }
    SetParams(rows, row, params);
  }
  return rows;
}

Agreement Judge(const SamplingRows& given, const SamplingRows& done, const at::Tensor& tokens,
                int64_t row) {
  const int32_t token = tokens.const_data_ptr<int32_t>()[row];
  const DeviceSamplingParams params = ParamsOf(given, row);
  const int32_t* slots = given.history.const_data_ptr<int32_t>();
  const int32_t* shared = slots + params.shared_start;
  const int32_t* own = slots + params.history_start;
  std::vector<int32_t> history(shared, shared + params.shared_length);
  history.insert(history.end(), own, own + params.history_length - params.shared_length);
  const int32_t behind = done.history.const_data_ptr<int32_t>()[SlotBehind(params)];
  if (token >= 0 && behind != token) return Agreement::kNone;
  Agreement agreement = Agreement::kSame;
  for (const DeviceSamplingParams& neighbour : Neighbours(params)) {
    const auto before = RowOf(given.logits, row);
    std::vector<float> scores(before.begin(), before.end());
    const int32_t truth = SampleToken(neighbour, history, scores);
    if (truth == token && SameRemoved(scores, RowOf(done.logits, row))) return agreement;
    agreement = Agreement::kNear;
  }
  return Agreement::kNone;
}

}  // namespace idefics::test
