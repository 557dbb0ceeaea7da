// SPDX-License-Identifier: Apache-2.0
// sample_tokens and gather_last_tokens on the device against the host, eagerly and replayed from a
// CUDA graph, and the time of sampling rows of the 9b vocabulary.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>

#include <cmath>
#include <cstdio>
#include <vector>

#include "tests/gpu/gpu_checks.h"
#include "tests/model/operators.h"
#include "tests/model/sampling_rows.h"

namespace idefics::test {
namespace {

constexpr uint64_t kSeed = 20261122;
constexpr int kVocab = 32002;

at::Tensor RunSampling(const SamplingRows& rows) {
  return RegisteredOperators().sample_tokens(rows.logits, rows.sampling_params, rows.history);
}

// Every kind of sampling params, `repeats` times.
SamplingRows AllChoices(const RowKind& kind, int repeats, uint64_t seed) {
  std::vector<DeviceSamplingParams> sampling_params;
  for (const NamedParams& named : AllParams())
    sampling_params.insert(sampling_params.end(), repeats, named.params);
  return MakeRows(sampling_params, kind, seed);
}

// Prints how many rows are a rounding away from the host's.
void ExpectSampled(const std::string& where, const SamplingRows& given, const SamplingRows& done,
                   const at::Tensor& tokens) {
  const std::vector<NamedParams> sampling_params = AllParams();
  const int64_t rows = given.logits.size(0);
  int64_t near = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const Agreement agreement = Judge(given, done, tokens, row);
    const std::string& name =
        sampling_params[row * static_cast<int64_t>(sampling_params.size()) / rows].name;
    Expect(agreement != Agreement::kNone, "sample_tokens, " + where + ", " + name);
    near += agreement == Agreement::kNear ? 1 : 0;
  }
  std::printf("sample_tokens, %s: %ld of %ld rows are a rounding away\n", where.c_str(),
              static_cast<long>(near), static_cast<long>(rows));
}

void CompareEager(const std::string& where, const RowKind& kind, int repeats) {
  const SamplingRows given = AllChoices(kind, repeats, kSeed);
  const SamplingRows device = given.To(at::kCUDA);
  const at::Tensor tokens = RunSampling(device).cpu();
  ExpectSampled(where, given, device.To(at::kCPU), tokens);
  const SamplingRows again = given.To(at::kCUDA);
  ExpectEqual("sample_tokens again, " + where, RunSampling(again).cpu(), tokens);
  ExpectEqual("scores of sample_tokens again, " + where, again.logits, device.logits);
  const SamplingRows alone = given.To(at::kCUDA);
  for (int64_t row = 0; row < tokens.size(0); ++row) {
    const at::Tensor token = RegisteredOperators().sample_tokens(
        alone.logits.narrow(0, row, 1), alone.sampling_params.narrow(0, row, 1), alone.history);
    ExpectEqual("sample_tokens of a row alone, " + where, token.cpu(), tokens.narrow(0, row, 1));
  }
}

// A step as decoding runs it: the tokens that were sampled are taken in the next one.
void CompareGraph() {
  const RowKind kind{.vocab = kVocab, .history = 200};
  const SamplingRows device = AllChoices(kind, 1, kSeed).To(at::kCUDA);
  const auto rows = static_cast<int>(device.logits.size(0));
  const at::Tensor unknown = at::full({rows}, kNoToken, device.sampling_params.options());
  const at::Tensor slots =
      at::arange(rows, device.sampling_params.options()) * (kind.history + 2) + kind.history;
  const c10::cuda::CUDAStreamGuard stream(c10::cuda::getStreamFromPool());
  const SamplingRows warm = device.To(at::kCUDA);
  RunSampling(warm);
  RegisteredOperators().gather_last_tokens(unknown, slots, warm.history);
  at::cuda::getCurrentCUDAStream().synchronize();
  at::cuda::CUDAGraph graph;
  graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
  const at::Tensor sampled = RunSampling(device);
  const at::Tensor taken = RegisteredOperators().gather_last_tokens(unknown, slots, device.history);
  graph.capture_end();
  for (uint64_t round = 1; round <= 3; ++round) {
    const SamplingRows given = AllChoices(kind, 1, kSeed + 50 * round);
    device.logits.copy_(given.logits);
    device.sampling_params.copy_(given.sampling_params);
    device.history.copy_(given.history);
    graph.replay();
    at::cuda::getCurrentCUDAStream().synchronize();
    ExpectSampled("graph", given, device.To(at::kCPU), sampled.cpu());
    ExpectEqual("gather_last_tokens, graph", taken, sampled);
  }
}

void CompareNothingChosen() {
  const SamplingRows given =
      MakeRows(std::vector<DeviceSamplingParams>(3, AllParams().back().params),
               {.vocab = 3000, .history = 9}, kSeed);
  given.logits[0][2999] = NAN;
  SetParams(given, 1, DeviceSamplingParams{});
  DeviceSamplingParams outside = ParamsOf(given, 2);
  outside.history_length = static_cast<int32_t>(given.history.numel());
  SetParams(given, 2, outside);
  const SamplingRows device = given.To(at::kCUDA);
  ExpectEqual("sample_tokens of nothing", RunSampling(device).cpu(),
              at::tensor({kNotFinite, kNoToken, kNoToken}, at::kInt));
  ExpectEqual("a row without a mode", device.logits[1].cpu(), given.logits[1]);
  ExpectEqual("history without a mode", device.history.cpu(), given.history);
}

void CompareTake() {
  const at::Tensor slots = at::arange(1000, at::kInt).mul(7).remainder(1009).to(at::kInt);
  const at::Tensor tokens = at::arange(1000, at::kInt).remainder(3).sub(1).to(at::kInt);
  const at::Tensor history = at::arange(5000, 6009, at::kInt);
  const at::Tensor on_device = history.to(at::kCUDA);
  const at::Tensor mine = RegisteredOperators().gather_last_tokens(tokens.to(at::kCUDA),
                                                                   slots.to(at::kCUDA), on_device);
  const at::Tensor truth = ReferenceOperators().gather_last_tokens(tokens, slots, history);
  ExpectEqual("gather_last_tokens", mine.cpu(), truth);
  ExpectEqual("history of gather_last_tokens", on_device.cpu(), history);
}

// Microseconds of one call, without the copy that restores the logits.
double TimeSamplingRow(const DeviceSamplingParams& params, int rows) {
  const SamplingRows fresh = MakeRows(std::vector<DeviceSamplingParams>(rows, params),
                                      {.vocab = kVocab, .history = 500}, kSeed)
                                 .To(at::kCUDA);
  const SamplingRows device = fresh.To(at::kCUDA);
  const auto restore = [&](int) { device.logits.copy_(fresh.logits); };
  const double copy = Microseconds(20, restore);
  return Microseconds(20,
                      [&](int i) {
                        restore(i);
                        RunSampling(device);
                      }) -
         copy;
}

}  // namespace

void CompareSampling() {
  CompareEager("vocab 50", {.vocab = 50, .history = 30, .spread = 1}, 20);
  CompareEager("vocab 32002", {.vocab = kVocab, .history = 700}, 8);
  CompareEager("vocab 32002, ties", {.vocab = kVocab, .history = 90, .spread = 2, .ties = true}, 8);
  CompareEager("vocab 131072", {.vocab = 131072, .history = 20, .spread = 2}, 2);
  CompareGraph();
  CompareNothingChosen();
  CompareTake();
}

void TimeSampling() {
  for (const NamedParams& named : AllParams()) {
    std::printf("sample_tokens of %d, %-22s", kVocab, named.name.c_str());
    for (const int rows : {1, 8, 64}) {
      std::printf(" %2d rows %7.1f us", rows, TimeSamplingRow(named.params, rows));
    }
    std::printf("\n");
  }
}

}  // namespace idefics::test
