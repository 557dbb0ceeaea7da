// SPDX-License-Identifier: Apache-2.0
// choose_tokens and take_tokens: the CUDA kernels, run on the host, and the registered CPU versions
// against predictor/sampling/row_choice.h.
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

struct Chosen {
  SamplingRows rows;  // after it
  at::Tensor tokens;

  int32_t token(int64_t row) const { return tokens.const_data_ptr<int32_t>()[row]; }
};

Chosen Choose(const Operators& operators, const SamplingRows& given) {
  const SamplingRows rows = given.To(at::kCPU);
  return {rows, operators.choose_tokens(rows.logits, rows.choices, rows.history)};
}

// By the kernel, which must compute the same bits whichever thread comes first.
Chosen ChooseByKernel(const SamplingRows& given) {
  const Chosen forward = Choose(HostCudaOperators(), given);
  SetHostTurnsBackward(true);
  const Chosen backward = Choose(HostCudaOperators(), given);
  SetHostTurnsBackward(false);
  CHECK(at::equal(forward.tokens, backward.tokens));
  CHECK(at::equal(forward.rows.history, backward.rows.history));
  CHECK(at::allclose(forward.rows.logits, backward.rows.logits, 0, 0, /*equal_nan=*/true));
  return forward;
}

RowChoice Sample() {
  RowChoice choice;
  choice.mode = ChoiceMode::kSample;
  return choice;
}

// Compares `repeats` rows of every choice; all but a few must agree to the bit.
void CompareAll(const RowKind& kind, int repeats, uint64_t seed) {
  int rows = 0, near = 0;
  for (const NamedChoice& named : Choices()) {
    const SamplingRows given =
        MakeRows(std::vector<RowChoice>(repeats, named.choice), kind, seed + rows);
    const Chosen chosen = ChooseByKernel(given);
    for (int64_t row = 0; row < repeats; ++row) {
      INFO(named.name << ", vocab " << kind.vocab << ", row " << row << ", token "
                      << chosen.token(row));
      const Agreement agreement = Judge(given, chosen.rows, chosen.tokens, row);
      CHECK(agreement != Agreement::kNone);
      near += agreement == Agreement::kNear ? 1 : 0;
      ++rows;
    }
  }
  INFO(near << " of " << rows << " rows are a rounding away");
  CHECK(near * 50 <= rows);
}

TEST_CASE("the kernel chooses what the host would, for every parameter", "[choose_tokens]") {
  CompareAll({.vocab = 5, .history = 4}, 6, kSeed);
  CompareAll({.vocab = 50, .history = 30, .spread = 1}, 6, kSeed + 1000);
  CompareAll({.vocab = 257, .history = 60}, 6, kSeed + 2000);
  CompareAll({.vocab = 3000, .history = 2000, .spread = 1.5}, 4, kSeed + 3000);
}

TEST_CASE("the kernel chooses what the host would among 32002 and more tokens", "[choose_tokens]") {
  CompareAll({.vocab = 32002, .history = 700}, 2, kSeed);
  CompareAll({.vocab = 131072, .history = 20, .spread = 2}, 1, kSeed + 1000);
}

TEST_CASE("equal logits are removed in the host's order", "[choose_tokens]") {
  CompareAll({.vocab = 5, .history = 0, .spread = 0.1f, .ties = true}, 6, kSeed);
  CompareAll({.vocab = 50, .history = 9, .spread = 0.5f, .ties = true}, 6, kSeed + 1000);
  CompareAll({.vocab = 2100, .history = 90, .spread = 1, .ties = true}, 6, kSeed + 2000);
  CompareAll({.vocab = 32002, .history = 90, .spread = 2, .ties = true}, 2, kSeed + 3000);
}

TEST_CASE("the ends of the distribution are its first and its last token", "[choose_tokens]") {
  const SamplingRows given = MakeRows({Sample(), Sample()}, {.vocab = 3000, .spread = 1}, kSeed);
  RowChoice choice = ChoiceOf(given, 0);
  choice.uniform = 0;
  SetChoice(given, 0, choice);
  choice = ChoiceOf(given, 1);
  choice.uniform = kAlmostOne;
  SetChoice(given, 1, choice);
  const Chosen chosen = ChooseByKernel(given);
  CHECK(chosen.token(0) == 0);
  CHECK(chosen.token(1) == 2999);
}

TEST_CASE("top_k 1 and top_p 0 leave the best token, of equal ones the first for top_p",
          "[choose_tokens]") {
  RowChoice top_k = Sample();
  top_k.top_k = 1;
  RowChoice top_p = Sample();
  top_p.top_p = 0;
  const SamplingRows given = MakeRows({top_k, top_p}, {.vocab = 40, .spread = 1}, kSeed);
  given.logits[0][17] = 9;
  given.logits[1][17] = 9;
  given.logits[1][23] = 9;
  const Chosen chosen = ChooseByKernel(given);
  CHECK(chosen.token(0) == 17);
  CHECK(chosen.token(1) == 17);
  CHECK(chosen.rows.logits.isfinite().sum().item<int64_t>() == 2);
}

TEST_CASE("a zero with a sign is as large as one without", "[choose_tokens]") {
  RowChoice greedy;
  greedy.mode = ChoiceMode::kGreedy;
  const SamplingRows given = MakeRows({greedy}, {.vocab = 6}, kSeed);
  given.logits.copy_(at::tensor({-1.0f, -0.0f, 0.0f, -2.0f, 0.0f, -0.0f}).view({1, 6}));
  CHECK(ChooseByKernel(given).token(0) == 1);
}

TEST_CASE("logits that are not all finite choose nothing", "[choose_tokens]") {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity(), 0};
  for (const ChoiceMode mode : {ChoiceMode::kGreedy, ChoiceMode::kSample}) {
    RowChoice choice;
    choice.mode = mode;
    const SamplingRows given =
        MakeRows(std::vector<RowChoice>(4, choice), {.vocab = 2000, .history = 3}, kSeed);
    for (int row = 0; row < 4; ++row) given.logits[row][1999 - 600 * row] = bad[row];
    for (const Operators& operators : {HostCudaOperators(), RegisteredOperators()}) {
      INFO(operators.name);
      const Chosen chosen = Choose(operators, given);
      for (int row = 0; row < 3; ++row) {
        CHECK(chosen.token(row) == kNotFinite);
        const RowChoice done = ChoiceOf(given, row);
        const int64_t behind = done.history_start + done.history_length;
        CHECK(at::equal(chosen.rows.history[behind], given.history[behind]));
      }
      CHECK(chosen.token(3) >= 0);
    }
  }
}

TEST_CASE("rows without a mode stay as they are, and so does history but for the chosen",
          "[choose_tokens]") {
  const SamplingRows given =
      MakeRows({Sample(), RowChoice{}, Sample(), RowChoice{}}, {.vocab = 300, .history = 5}, kSeed);
  given.logits[3][2] = std::numeric_limits<float>::quiet_NaN();
  for (const Operators& operators : {HostCudaOperators(), RegisteredOperators()}) {
    INFO(operators.name);
    const Chosen chosen = Choose(operators, given);
    at::Tensor history = given.history.clone();
    for (int64_t row = 0; row < 4; ++row) {
      const RowChoice choice = ChoiceOf(given, row);
      if (choice.mode == ChoiceMode::kNone) {
        CHECK(chosen.token(row) == kNotChosen);
        CHECK(at::allclose(chosen.rows.logits[row], given.logits[row], 0, 0, true));
      } else {
        CHECK(Judge(given, chosen.rows, chosen.tokens, row) != Agreement::kNone);
        history[choice.history_start + choice.history_length] = chosen.token(row);
      }
    }
    CHECK(at::equal(chosen.rows.history, history));
  }
}

TEST_CASE("a row whose history lies outside chooses nothing, or is an error on the CPU",
          "[choose_tokens]") {
  const SamplingRows given = MakeRows({Sample()}, {.vocab = 9, .history = 4}, kSeed);
  const auto slots = static_cast<int32_t>(given.history.numel());
  const int32_t starts[] = {-1, slots, 2, 0, 1};
  const int32_t lengths[] = {2, 0, slots - 2, -1, std::numeric_limits<int32_t>::max()};
  for (int i = 0; i < 5; ++i) {
    INFO(lengths[i] << " tokens from slot " << starts[i]);
    RowChoice choice = ChoiceOf(given, 0);
    choice.history_start = starts[i];
    choice.history_length = lengths[i];
    SetChoice(given, 0, choice);
    const Chosen chosen = ChooseByKernel(given);
    CHECK(chosen.token(0) == kNotChosen);
    CHECK(at::equal(chosen.rows.history, given.history));
    CHECK_THROWS_AS(Choose(RegisteredOperators(), given), c10::Error);
  }
}

TEST_CASE("drawn tokens are distributed as softmax says", "[choose_tokens]") {
  constexpr int kDraws = 800;
  SamplingRows given =
      MakeRows(std::vector<RowChoice>(kDraws, Sample()), {.vocab = 12, .spread = 1}, kSeed);
  given.logits = given.logits[0].expand({kDraws, 12}).contiguous();
  const Chosen chosen = Choose(HostCudaOperators(), given);
  const at::Tensor expected = given.logits[0].softmax(0) * kDraws;
  const at::Tensor counts = at::bincount(chosen.tokens, {}, 12);
  const double chi_square = ((counts - expected).pow(2) / expected).sum().item<double>();
  CHECK(chi_square < 24.7);  // 1 % of true samples with 11 degrees of freedom exceed it
}

TEST_CASE("choose_tokens refuses tensors of other types and shapes", "[choose_tokens]") {
  const SamplingRows good = MakeRows({Sample()}, {.vocab = 9}, kSeed);
  for (const Operators& operators : {HostCudaOperators(), RegisteredOperators()}) {
    INFO(operators.name);
    const auto refuses = [&](const at::Tensor& logits, const at::Tensor& choices,
                             const at::Tensor& history) {
      CHECK_THROWS_AS(operators.choose_tokens(logits, choices, history), c10::Error);
    };
    refuses(good.logits.to(at::kHalf), good.choices, good.history);
    refuses(good.logits.flatten(), good.choices, good.history);
    refuses(good.logits.expand({2, 9}), good.choices.repeat({2, 1}), good.history);
    refuses(good.logits, good.choices.to(at::kLong), good.history);
    refuses(good.logits, good.choices.repeat({2, 1}), good.history);
    refuses(good.logits, good.choices.narrow(1, 0, 29), good.history);
    refuses(good.logits, good.choices, good.history.to(at::kLong));
  }
  const SamplingRows wide = MakeRows({Sample()}, {.vocab = 131073}, kSeed);
  CHECK_THROWS_AS(Choose(HostCudaOperators(), wide), c10::Error);
}

TEST_CASE("take_tokens leaves the host's tokens in history and takes the device's from there",
          "[choose_tokens]") {
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
    CHECK(
        at::equal(operators.take_tokens(given, slots, history), at::where(unknown, held, tokens)));
    CHECK(at::equal(history,
                    before.index_copy(0, slots.to(at::kLong), at::where(unknown, held, tokens))));
    CHECK(operators.take_tokens(given.narrow(0, 0, 0), slots.narrow(0, 0, 0), history).numel() ==
          0);
    CHECK_THROWS_AS(operators.take_tokens(given, slots.narrow(0, 0, 9), history), c10::Error);
    CHECK_THROWS_AS(operators.take_tokens(given.to(at::kLong), slots, history), c10::Error);
  }
  CHECK_THROWS_AS(RegisteredOperators().take_tokens(given, slots + 331, before), c10::Error);
}

}  // namespace
}  // namespace idefics::test
