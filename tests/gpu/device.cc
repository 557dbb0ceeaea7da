// SPDX-License-Identifier: Apache-2.0
// What a new device can do at most, by ATen and a kernel of our own.
#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <vector>

#include "tests/gpu/gpu_checks.h"

namespace idefics::test {
namespace {

void TimeCopies() {
  constexpr int64_t kBytes = int64_t{2} << 30;
  const auto device = at::TensorOptions(at::kCUDA).dtype(at::kByte);
  const at::Tensor from = at::randint(0, 256, {kBytes}, device);
  const at::Tensor to = at::empty_like(from);
  const double us = Microseconds(4, [&](int) { to.copy_(from); });
  std::printf("copying: %.0f GB/s (bytes read and written)\n",
              2 * static_cast<double>(kBytes) / us / 1000);
  const at::Tensor host = at::empty({1 << 28}, at::TensorOptions(at::kByte).pinned_memory(true));
  host.fill_(7);
  const at::Tensor there = to.narrow(0, 0, 1 << 28);
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    there.copy_(host);  // waits
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    best = std::max(best, static_cast<double>(host.numel()) / took.count() / 1e9);
  }
  std::printf("pinned host memory to the device: %.1f GB/s\n", best);
}

void TimeReplayGap() {
  const at::Tensor one = at::zeros({1}, at::kCUDA);
  std::printf("a graph's kernel that does nothing: %.2f us\n",
              Microseconds(500, [&](int) { one.add_(1); }));
}

// ATen's own W4A16 kernel, on 4096 -> 22016.
void TimeTinygemm() {
  constexpr int64_t kIn = 4096, kOut = 22016, kGroups = kIn / 128;
  const auto device = at::TensorOptions(at::kCUDA);
  std::vector<at::Tensor> weights;
  for (int i = 0; i < 12; ++i) {
    weights.push_back(at::_convert_weight_to_int4pack(
        at::randint(0, 256, {kOut, kIn / 2}, device.dtype(at::kByte)), 8));
  }
  const at::Tensor scales = at::rand({kGroups, kOut, 2}, device).to(at::kBFloat16);
  for (const int64_t rows : {1, 8}) {
    const at::Tensor x = at::randn({rows, kIn}, device.dtype(at::kBFloat16));
    const double us = Microseconds(static_cast<int>(weights.size()), [&](int i) {
      at::_weight_int4pack_mm(x, weights[i], 128, scales);
    });
    const double rate = static_cast<double>(kOut * kIn / 2) / us / 1000;
    std::printf("tinygemm int4 4096 -> 22016, M=%ld: %.1f us, %.0f GB/s, %.0f %% of reading\n",
                static_cast<long>(rows), us, rate, 100 * rate / ReadBandwidth());
  }
}

}  // namespace

void TimeDevice() {
  std::printf("reading: %.0f GB/s\n", ReadBandwidth());
  TimeCopies();
  TimeReplayGap();
  try {
    TimeTinygemm();
  } catch (const std::exception& error) {
    std::printf("tinygemm does not run here: %s\n", error.what());
  }
}

}  // namespace idefics::test
