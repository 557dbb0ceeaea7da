// SPDX-License-Identifier: Apache-2.0
#include "tests/gpu/gpu_checks.h"

#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "tests/model/ragged_step.h"

namespace idefics::test {

void Expect(bool holds, const std::string& what) {
  ++outcome.checks;
  if (holds) return;
  ++outcome.failures;
  std::printf("FAILED %s\n", what.c_str());
}

void ExpectClose(const std::string& what, const at::Tensor& mine, const at::Tensor& truth,
                 double slack) {
  const Difference difference = Compare(mine, truth);
  Expect(difference.largest <= slack, what + ": " + difference.text);
}

void ExpectEqual(const std::string& what, const at::Tensor& mine, const at::Tensor& truth) {
  Expect(at::equal(mine, truth), what + ": bits differ");
}

double Microseconds(int calls, const std::function<void(int)>& call) {
  constexpr int kRounds = 11;
  c10::cuda::device_synchronize();  // the inputs were made on another stream
  const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool());
  auto stream = at::cuda::getCurrentCUDAStream();
  for (int i = 0; i < std::min(calls, 3); ++i) call(i);
  stream.synchronize();
  at::cuda::CUDAGraph graph;
  graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
  for (int i = 0; i < calls; ++i) call(i);
  graph.capture_end();
  graph.replay();
  std::vector<double> times;
  for (int round = 0; round < kRounds; ++round) {
    at::cuda::CUDAEvent begin(cudaEventDefault), end(cudaEventDefault);
    begin.record(stream);
    graph.replay();
    end.record(stream);
    end.synchronize();
    times.push_back(1000.0 * begin.elapsed_time(end) / calls);
  }
  std::nth_element(times.begin(), times.begin() + kRounds / 2, times.end());
  return times[kRounds / 2];
}

}  // namespace idefics::test
