// SPDX-License-Identifier: Apache-2.0
// sample_tokens and gather_last_tokens: the CUDA kernels, run on the host, and the registered CPU
// versions against predictor/sampling/device_sampling.h.
#include <ATen/ATen.h>

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/model/operators.h"
#include "tests/model/sampling_rows.h"

namespace idefics::test {
namespace {

constexpr uint64_t kSeed = 20261122;
constexpr double kAlmostOne = 1 - 0x1p-53;

struct Sampled {
  SamplingRows rows;  // after it
  at::Tensor tokens;

  int32_t token(int64_t row) const { return tokens.const_data_ptr<int32_t>()[row]; }
};

Sampled RunSampling(const Operators& operators, const SamplingRows& given) {
  const SamplingRows rows = given.To(at::kCPU);
  return {rows, operators.sample_tokens(rows.logits, rows.sampling_params, rows.history)};
}

// By the kernel, which must compute the same bits whichever thread comes first.
Sampled SampleByKernel(const SamplingRows& given) {
  const Sampled forward = RunSampling(HostCudaOperators(), given);
  SetScheduleBackward(true);
  const Sampled backward = RunSampling(HostCudaOperators(), given);
  SetScheduleBackward(false);
  CHECK(at::equal(forward.tokens, backward.tokens));
  CHECK(at::equal(forward.rows.history, backward.rows.history));
  CHECK(at::allclose(forward.rows.logits, backward.rows.logits, 0, 0, /*equal_nan=*/true));
  return forward;
}

DeviceSamplingParams Sample() {
  DeviceSamplingParams params;
  params.mode = SamplingMode::kSample;
  return params;
}

// Compares `repeats` rows of each of AllParams(); all but a few must agree to the bit.
void CompareAll(const RowKind& kind, int repeats, uint64_t seed) {
  int rows = 0, near = 0;
  for (const NamedParams& named : AllParams()) {
    const SamplingRows given =
        MakeRows(std::vector<DeviceSamplingParams>(repeats, named.params), kind, seed + rows);
    const Sampled sampled = SampleByKernel(given);
    for (int64_t row = 0; row < repeats; ++row) {
      INFO(named.name << ", vocab " << kind.vocab << ", row " << row << ", token "
                      << sampled.token(row));
      const Agreement agreement = Judge(given, sampled.rows, sampled.tokens, row);
      CHECK(agreement != Agreement::kNone);
      near += agreement == Agreement::kNear ? 1 : 0;
      ++rows;
    }
  }
  INFO(near << " of " << rows << " rows are a rounding away");
  CHECK(near * 50 <= rows);
}

TEST_CASE("the kernel samples what the host would, for every parameter", "[sample_tokens]") {
  CompareAll({.vocab = 5, .history = 4}, 6, kSeed);
  CompareAll({.vocab = 50, .history = 30, .spread = 1}, 6, kSeed + 1000);
  CompareAll({.vocab = 257, .history = 60}, 6, kSeed + 2000);
  CompareAll({.vocab = 3000, .history = 2000, .spread = 1.5}, 4, kSeed + 3000);
}

TEST_CASE("the kernel samples what the host would among 32002 and more tokens", "[sample_tokens]") {
  CompareAll({.vocab = 32002, .history = 700}, 2, kSeed);
  CompareAll({.vocab = 131072, .history = 20, .spread = 2}, 1, kSeed + 1000);
}

TEST_CASE("the kernel samples what the host would where histories begin elsewhere",
          "[sample_tokens]") {
  CompareAll({.vocab = 5, .history = 4, .shared = true}, 6, kSeed);
  CompareAll({.vocab = 50, .history = 30, .spread = 1, .shared = true}, 6, kSeed + 1000);
  CompareAll({.vocab = 3000, .history = 2000, .spread = 1.5, .shared = true}, 2, kSeed + 2000);
}

TEST_CASE("equal logits are removed in the host's order", "[sample_tokens]") {
  CompareAll({.vocab = 5, .history = 0, .spread = 0.1f, .ties = true}, 6, kSeed);
  CompareAll({.vocab = 50, .history = 9, .spread = 0.5f, .ties = true}, 6, kSeed + 1000);
  CompareAll({.vocab = 2100, .history = 90, .spread = 1, .ties = true}, 6, kSeed + 2000);
  CompareAll({.vocab = 32002, .history = 90, .spread = 2, .ties = true}, 2, kSeed + 3000);
}

TEST_CASE("the ends of the distribution are its first and its last token", "[sample_tokens]") {
  const SamplingRows given = MakeRows({Sample(), Sample()}, {.vocab = 3000, .spread = 1}, kSeed);
  DeviceSamplingParams params = ParamsOf(given, 0);
  params.uniform = 0;
  SetParams(given, 0, params);
  params = ParamsOf(given, 1);
  params.uniform = kAlmostOne;
  SetParams(given, 1, params);
  const Sampled sampled = SampleByKernel(given);
  CHECK(sampled.token(0) == 0);
  CHECK(sampled.token(1) == 2999);
}

TEST_CASE("top_k 1 and top_p 0 leave the best token, of equal ones the first for top_p",
          "[sample_tokens]") {
  DeviceSamplingParams top_k = Sample();
  top_k.top_k = 1;
  DeviceSamplingParams top_p = Sample();
  top_p.top_p = 0;
  const SamplingRows given = MakeRows({top_k, top_p}, {.vocab = 40, .spread = 1}, kSeed);
  given.logits[0][17] = 9;
  given.logits[1][17] = 9;
  given.logits[1][23] = 9;
  const Sampled sampled = SampleByKernel(given);
  CHECK(sampled.token(0) == 17);
  CHECK(sampled.token(1) == 17);
  CHECK(sampled.rows.logits.isfinite().sum().item<int64_t>() == 2);
}

TEST_CASE("a zero with a sign is as large as one without", "[sample_tokens]") {
  DeviceSamplingParams greedy;
  greedy.mode = SamplingMode::kGreedy;
  const SamplingRows given = MakeRows({greedy}, {.vocab = 6}, kSeed);
  given.logits.copy_(at::tensor({-1.0f, -0.0f, 0.0f, -2.0f, 0.0f, -0.0f}).view({1, 6}));
  CHECK(SampleByKernel(given).token(0) == 1);
}

TEST_CASE("logits that are not all finite give no token", "[sample_tokens]") {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity(), 0};
  for (const SamplingMode mode : {SamplingMode::kGreedy, SamplingMode::kSample}) {
    DeviceSamplingParams params;
    params.mode = mode;
    const SamplingRows given = MakeRows(std::vector<DeviceSamplingParams>(4, params),
                                        {.vocab = 2000, .history = 3}, kSeed);
    for (int row = 0; row < 4; ++row) given.logits[row][1999 - 600 * row] = bad[row];
    for (const Operators& operators : {HostCudaOperators(), RegisteredOperators()}) {
      INFO(operators.name);
      const Sampled sampled = RunSampling(operators, given);
      for (int row = 0; row < 3; ++row) {
        CHECK(sampled.token(row) == kNotFinite);
        const DeviceSamplingParams done = ParamsOf(given, row);
        const int64_t behind = SlotBehind(done);
        CHECK(at::equal(sampled.rows.history[behind], given.history[behind]));
      }
      CHECK(sampled.token(3) >= 0);
    }
  }
}

TEST_CASE("rows without a mode stay as they are, and so does history but for the sampled tokens",
          "[sample_tokens]") {
  const SamplingRows given =
      MakeRows({Sample(), DeviceSamplingParams{}, Sample(), DeviceSamplingParams{}},
               {.vocab = 300, .history = 5}, kSeed);
  given.logits[3][2] = std::numeric_limits<float>::quiet_NaN();
  for (const Operators& operators : {HostCudaOperators(), RegisteredOperators()}) {
    INFO(operators.name);
    const Sampled sampled = RunSampling(operators, given);
    at::Tensor history = given.history.clone();
    for (int64_t row = 0; row < 4; ++row) {
      const DeviceSamplingParams params = ParamsOf(given, row);
      if (params.mode == SamplingMode::kNone) {
        CHECK(sampled.token(row) == kNoToken);
        CHECK(at::allclose(sampled.rows.logits[row], given.logits[row], 0, 0, true));
      } else {
        CHECK(Judge(given, sampled.rows, sampled.tokens, row) != Agreement::kNone);
        history[SlotBehind(params)] = sampled.token(row);
      }
    }
    CHECK(at::equal(sampled.rows.history, history));
  }
}

TEST_CASE("a row whose history is outside samples nothing, or is an error on the CPU",
          "[sample_tokens]") {
  const SamplingRows given = MakeRows({Sample()}, {.vocab = 9, .history = 4}, kSeed);
  const auto slots = static_cast<int32_t>(given.history.numel());
  const int32_t starts[] = {-1, slots, 2, 0, 1};
  const int32_t lengths[] = {2, 0, slots - 2, -1, std::numeric_limits<int32_t>::max()};
  for (int i = 0; i < 5; ++i) {
    INFO(lengths[i] << " tokens from slot " << starts[i]);
    DeviceSamplingParams params = ParamsOf(given, 0);
    params.history_start = starts[i];
    params.history_length = lengths[i];
    SetParams(given, 0, params);
    const Sampled sampled = SampleByKernel(given);
    CHECK(sampled.token(0) == kNoToken);
    CHECK(at::equal(sampled.rows.history, given.history));
    CHECK_THROWS_AS(RunSampling(RegisteredOperators(), given), c10::Error);
  }
}

TEST_CASE("a row whose shared or new tokens are outside samples nothing, or is an error on the CPU",
          "[sample_tokens]") {
  const SamplingRows given = MakeRows({Sample()}, {.vocab = 9, .history = 6}, kSeed);
  const auto slots = static_cast<int32_t>(given.history.numel());
  struct Outside {
    int32_t shared_start, shared_length, new_tokens;
  };
  for (const Outside& outside : {Outside{-1, 2, 0}, Outside{slots - 1, 2, 0}, Outside{0, -1, 0},
                                 Outside{0, 7, 0}, Outside{0, 0, 7}, Outside{0, 0, -1}}) {
    CAPTURE(outside.shared_start, outside.shared_length, outside.new_tokens);
    DeviceSamplingParams params = ParamsOf(given, 0);
    params.shared_start = outside.shared_start;
    params.shared_length = outside.shared_length;
    params.new_tokens = outside.new_tokens;
    SetParams(given, 0, params);
    const Sampled sampled = SampleByKernel(given);
    CHECK(sampled.token(0) == kNoToken);
    CHECK(at::equal(sampled.rows.history, given.history));
    CHECK_THROWS_AS(RunSampling(RegisteredOperators(), given), c10::Error);
  }
}

TEST_CASE("drawn tokens are distributed as softmax says", "[sample_tokens]") {
  constexpr int kDraws = 800;
  SamplingRows given = MakeRows(std::vector<DeviceSamplingParams>(kDraws, Sample()),
                                {.vocab = 12, .spread = 1}, kSeed);
  given.logits = given.logits[0].expand({kDraws, 12}).contiguous();
  const Sampled sampled = RunSampling(HostCudaOperators(), given);
  const at::Tensor expected = given.logits[0].softmax(0) * kDraws;
  const at::Tensor counts = at::bincount(sampled.tokens, {}, 12);
  const double chi_square = ((counts - expected).pow(2) / expected).sum().item<double>();
  CHECK(chi_square < 24.7);  // 1 % of true samples with 11 degrees of freedom exceed it
}

TEST_CASE("sample_tokens refuses tensors of other types and shapes", "[sample_tokens]") {
  const SamplingRows good = MakeRows({Sample()}, {.vocab = 9}, kSeed);
  for (const Operators& operators : {HostCudaOperators(), RegisteredOperators()}) {
    INFO(operators.name);
    const auto refuses = [&](const at::Tensor& logits, const at::Tensor& sampling_params,
                             const at::Tensor& history) {
      CHECK_THROWS_AS(operators.sample_tokens(logits, sampling_params, history), c10::Error);
    };
    refuses(good.logits.to(at::kHalf), good.sampling_params, good.history);
    refuses(good.logits.flatten(), good.sampling_params, good.history);
    refuses(good.logits.expand({2, 9}), good.sampling_params.repeat({2, 1}), good.history);
    refuses(good.logits, good.sampling_params.to(at::kLong), good.history);
    refuses(good.logits, good.sampling_params.repeat({2, 1}), good.history);
    refuses(good.logits, good.sampling_params.narrow(1, 0, 29), good.history);
    refuses(good.logits, good.sampling_params, good.history.to(at::kLong));
  }
  const SamplingRows wide = MakeRows({Sample()}, {.vocab = 131073}, kSeed);
  CHECK_THROWS_AS(RunSampling(HostCudaOperators(), wide), c10::Error);
}

TEST_CASE(
    "gather_last_tokens stores the host's tokens in history and takes the device's from there",
    "[sample_tokens]") {
  constexpr int kTokens = 300;
  const at::Tensor slots = at::arange(kTokens, at::kInt).mul(7).remainder(331).to(at::kInt);
  const at::Tensor before = at::arange(1000, 1331, at::kInt);
  const at::Tensor tokens = at::arange(kTokens, at::kInt);
  const at::Tensor unknown = tokens.remainder(3).eq(1);
  const at::Tensor given = tokens.masked_fill(unknown, -1);
  const at::Tensor held = before.index_select(0, slots);
  for (const Operators& operators : {HostCudaOperators(), RegisteredOperators()}) {
    INFO(operators.name);
    const at::Tensor history = before.clone();
    CHECK(at::equal(operators.gather_last_tokens(given, slots, history),
                    at::where(unknown, held, tokens)));
    CHECK(at::equal(history,
                    before.index_copy(0, slots.to(at::kLong), at::where(unknown, held, tokens))));
    CHECK(operators.gather_last_tokens(given.narrow(0, 0, 0), slots.narrow(0, 0, 0), history)
              .numel() == 0);
    CHECK_THROWS_AS(operators.gather_last_tokens(given, slots.narrow(0, 0, 9), history),
                    c10::Error);
    CHECK_THROWS_AS(operators.gather_last_tokens(given.to(at::kLong), slots, history), c10::Error);
  }
  CHECK_THROWS_AS(RegisteredOperators().gather_last_tokens(given, slots + 331, before), c10::Error);
}

}  // namespace
}  // namespace idefics::test
