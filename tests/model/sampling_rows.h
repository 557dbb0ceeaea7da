// SPDX-License-Identifier: Apache-2.0
// Random inputs of idefics::sample_tokens and a judge of its results. Used by the host test
// and by the device test. Made on the CPU from a seed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "predictor/sampling/device_sampling.h"

namespace idefics::test {

struct NamedParams {
  std::string name;
  DeviceSamplingParams params;  // all but uniform and history
};

// Every parameter alone, and combinations.
std::vector<NamedParams> AllParams();

struct SamplingRows {
  at::Tensor logits;           // [S, vocab] f32
  at::Tensor sampling_params;  // [S, kDeviceSamplingWords] i32
  at::Tensor history;          // [slots] i32; -7 where no row has a token

  SamplingRows To(at::Device device) const;  // always a copy
};

struct RowKind {
  int vocab = 0;
  int history = 0;      // tokens of a row; some occur more than once
  float spread = 3;     // standard deviation of the logits
  bool ties = false;    // logits are multiples of 1/4
  bool shared = false;  // a third of the history lies apart from the rest
};

// A row for each of `sampling_params`, each with its own part of `history` and random `uniform`.
SamplingRows MakeRows(const std::vector<DeviceSamplingParams>& sampling_params, const RowKind& kind,
                      uint64_t seed);

DeviceSamplingParams ParamsOf(const SamplingRows& rows, int64_t row);
int32_t SlotBehind(const DeviceSamplingParams& params);  // of the sampled token
void SetParams(const SamplingRows& rows, int64_t row, const DeviceSamplingParams& params);

enum class Agreement {
  kSame,  // the same token, and the same tokens removed
  kNear,  // the same for a parameter that differs by rounding: by a few millionths
  kNone,
};

// given: before the operator; done: after it, on the CPU. tokens: [S] i32, what it returned.
Agreement Judge(const SamplingRows& given, const SamplingRows& done, const at::Tensor& tokens,
                int64_t row);

}  // namespace idefics::test
