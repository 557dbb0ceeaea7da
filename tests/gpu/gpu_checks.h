// SPDX-License-Identifier: Apache-2.0
// Comparisons and timings on the device. Plain functions: the test runs where only torch is.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>

namespace idefics::test {

struct Outcome {
  int checks = 0;
  int failures = 0;
};
inline Outcome outcome;

// Counts, and prints what failed.
void Expect(bool holds, const std::string& what);
// To `slack` times the tolerance of ragged_step.h.
void ExpectClose(const std::string& what, const at::Tensor& mine, const at::Tensor& truth,
                 double slack = 1);
void ExpectEqual(const std::string& what, const at::Tensor& mine, const at::Tensor& truth);

// Median microseconds of call(i), calls 0 … calls-1 replayed one after another from one graph.
double Microseconds(int calls, const std::function<void(int)>& call);

// The parts of the test.
void CompareOperators();
void CompareLinears();
void CompareSampling();
void CompareStepGraphs();
void CompareQueues();
void CompareRanks();

// Prints what docs/performance.md#a-new-device asks of a new device.
void TimeOperators();
void TimeDevice();
void TimeLinears();
void TimeSampling();
void TimeRanks();
// Of few rows of each form with k divided among 1 to 8 blocks (split_linears.cu).
void TimeSplitLinears();

// GB/s of a kernel that only reads, over 4 GiB (read_bandwidth.cu); measured once.
double ReadBandwidth();

}  // namespace idefics::test
