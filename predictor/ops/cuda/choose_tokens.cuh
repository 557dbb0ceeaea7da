// SPDX-License-Identifier: Apache-2.0
// The next token of each row (predictor/sampling/row_choice.h), one block a row. Its bits do not
// depend on the other rows nor on the order of the threads.
#pragma once

#include "predictor/ops/cuda/logits_processors.cuh"

namespace idefics::IDEFICS_TARGET {

struct ChooseTokensArguments {
  float* logits;           // [rows, vocab]
  const int32_t* choices;  // [rows, kRowChoiceWords]
  int32_t* history;        // [slots]
  int32_t* out;            // [rows]
  int rows;
  int vocab;
  int64_t slots;
};

// The row's choice; without a mode where its history does not lie inside of [0, slots).
__device__ __forceinline__ RowChoice LoadChoice(const ChooseTokensArguments& a) {
  RowChoice choice;
  memcpy(static_cast<void*>(&choice), a.choices + blockIdx.x * kRowChoiceWords, sizeof(choice));
  const bool inside = choice.history_start >= 0 && choice.history_length >= 0 &&
                      int64_t{choice.history_start} + choice.history_length < a.slots;
  if (!inside) choice.mode = ChoiceMode::kNone;
  return choice;
}

__device__ __forceinline__ bool AllFinite(const Row& row) {
  bool finite = true;
  ForEachScore(row, [&](int, float score) { finite = finite && fabsf(score) < INFINITY; });
  return Reduce(row, finite ? 0 : 1, [](Mass a, Mass b) { return a | b; }) == 0;
}

__device__ __forceinline__ int32_t ChooseToken(const Row& row, const RowChoice& choice,
                                               const int32_t* history) {
  if (choice.mode == ChoiceMode::kNone) return kNotChosen;
  if (!AllFinite(row)) return kNotFinite;
  ApplyProcessors(row, choice, history);
  if (choice.mode == ChoiceMode::kGreedy) return FindBest(row).token;
  ApplyWarpers(row, choice);
  return Draw(row, choice.uniform);
}

static __global__ void __launch_bounds__(kRowThreads) ChooseTokensKernel(ChooseTokensArguments a) {
  __shared__ RowMemory memory;
  const RowChoice choice = LoadChoice(a);
  const Row row{a.logits + static_cast<int64_t>(blockIdx.x) * a.vocab, a.vocab, &memory};
  int32_t* history = a.history + choice.history_start;
  const int32_t token = ChooseToken(row, choice, history);
  if (threadIdx.x != 0) return;
  a.out[blockIdx.x] = token;
  if (token >= 0) history[choice.history_length] = token;
}

inline void LaunchChooseTokens(const ChooseTokensArguments& a, Stream stream) {
  if (a.rows == 0) return;
  Launch(ChooseTokensKernel, dim3{static_cast<unsigned>(a.rows)}, kRowThreads, stream, a);
}

}  // namespace idefics::IDEFICS_TARGET
