// SPDX-License-Identifier: Apache-2.0
// The CUDA operators of a ragged step against the reference on the CPU, eagerly and replayed from a
// CUDA graph, and their times at the 9b shapes.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>

#include <cstdio>
#include <vector>

#include "predictor/ops/kv_cache.h"
#include "tests/gpu/gpu_checks.h"
#include "tests/model/operators.h"
#include "tests/model/ragged_step.h"

namespace idefics::test {
namespace {

constexpr uint64_t kSeed = 20261121;
constexpr double kEps = 1e-6;

// Everything that one step computes.
struct Results {
  at::Tensor normal, sum, sum_normal, gated, q, attended, seen;
};

Results Run(const Operators& operators, const RaggedStep& step, const at::Tensor& weight) {
  Results results;
  results.normal = operators.rms_norm(step.qkv, weight, kEps);
  std::tie(results.sum, results.sum_normal) =
      operators.add_norm(step.qkv, step.qkv, weight, weight, kEps);
  results.gated = operators.swiglu(step.qkv);
  // First, while the caches are those of the reference to the bit.
  results.attended = operators.attend(step.q, step.k_cache, step.v_cache, step.row_starts,
                                      step.kv_starts, step.kv_lengths);
  results.q =
      operators.rope_write(step.qkv, step.cos, step.sin, step.kv_slots, step.k_cache, step.v_cache);
  results.seen = operators.attend_image(step.q, step.image_k, step.image_v, step.image_slots);
  return results;
}

void ExpectStep(const std::string& where, const Results& mine, const RaggedStep& my_step,
                const Results& truth, const RaggedStep& true_step) {
  ExpectClose("rms_norm, " + where, mine.normal, truth.normal);
  ExpectClose("add_norm, " + where, mine.sum, truth.sum);
  ExpectClose("add_norm's norm, " + where, mine.sum_normal, truth.sum_normal);
  ExpectClose("swiglu, " + where, mine.gated, truth.gated);
  ExpectClose("rope_write q, " + where, mine.q, truth.q);
  if (IsInt8Kv(true_step.k_cache)) {  // a rotation that rounds otherwise may choose the next code
    const at::Tensor most = true_step.Keys().abs().amax(-1, /*keepdim=*/true) * (1.01 / 127);
    const at::Tensor apart = (my_step.To(at::kCPU).Keys() - true_step.Keys()).abs();
    Expect((apart <= most).all().item<bool>(),
           "rope_write k, " + where + ": more than a code apart");
    ExpectClose("rope_write v, " + where, my_step.To(at::kCPU).Values(), true_step.Values());
  } else {
    ExpectClose("rope_write k, " + where, my_step.k_cache, true_step.k_cache);
    ExpectClose("rope_write v, " + where, my_step.v_cache, true_step.v_cache);
  }
  ExpectClose("attend, " + where, mine.attended, truth.attended);
  ExpectClose("attend_image, " + where, mine.seen, truth.seen);
}

// How the caches are stored; the text for messages.
struct Storage {
  const char* name;
  RaggedStep (*store)(const RaggedStep& step);
};

constexpr Storage kStorages[] = {
    {"", [](const RaggedStep& step) { return step; }},
    {", caches in 8 bit", [](const RaggedStep& step) { return step.InInt8(); }},
};

void CompareEager(const StepShape& shape, at::ScalarType type, const Storage& storage) {
  const RaggedStep host = storage.store(MakeStep(shape, type, kSeed));
  const RaggedStep device = host.To(at::kCUDA);
  const at::Tensor weight = Random({host.qkv.size(1)}, type, kSeed + 9);
  const Results mine = Run(RegisteredOperators(), device, weight.to(at::kCUDA));
  const Results truth = Run(ReferenceOperators(), host, weight);
  ExpectStep(shape.name + ", " + at::toString(type) + storage.name, mine, device, truth, host);
}

// Captures a step, then replays it on other numbers: nothing may have been read at capture.
void CompareGraph(const StepShape& shape, at::ScalarType type, const Storage& storage) {
  const RaggedStep device = storage.store(MakeStep(shape, type, kSeed)).To(at::kCUDA);
  const at::Tensor weight = Random({device.qkv.size(1)}, type, kSeed + 9);
  const at::Tensor device_weight = weight.to(at::kCUDA);
  const c10::cuda::CUDAStreamGuard stream(c10::cuda::getStreamFromPool());
  Run(RegisteredOperators(), device, device_weight);
  at::cuda::CUDAGraph graph;
  at::cuda::getCurrentCUDAStream().synchronize();
  graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
  const Results mine = Run(RegisteredOperators(), device, device_weight);
  graph.capture_end();
  StepShape moved = shape;  // the same slots, cut differently into rows: longer and shorter
  for (size_t r = 0; r + 1 < moved.befores.size(); r += 2) {
    std::swap(moved.befores[r], moved.befores[r + 1]);
  }
  const RaggedStep host = storage.store(MakeStep(moved, type, kSeed + 50));
  const RaggedStep fresh = host.To(at::kCUDA);
  device.qkv.copy_(fresh.qkv);
  device.q.copy_(fresh.q);
  device.cos.copy_(fresh.cos);
  device.sin.copy_(fresh.sin);
  device.k_cache.copy_(fresh.k_cache);
  device.v_cache.copy_(fresh.v_cache);
  device.kv_slots.copy_(fresh.kv_slots);
  device.kv_starts.copy_(fresh.kv_starts);
  device.kv_lengths.copy_(fresh.kv_lengths);
  device.image_k.copy_(fresh.image_k);
  device.image_v.copy_(fresh.image_v);
  device.image_slots.copy_(fresh.image_slots);
  graph.replay();
  at::cuda::getCurrentCUDAStream().synchronize();
  const Results truth = Run(ReferenceOperators(), host, weight);
  ExpectStep("graph of " + shape.name + ", " + at::toString(type) + storage.name, mine, device,
             truth, host);
}

void TimeShape(const StepShape& shape, const Storage& storage) {
  const RaggedStep step = storage.store(MakeStep(shape, at::kBFloat16, kSeed)).To(at::kCUDA);
  const Operators operators = RegisteredOperators();
  int64_t keys = 0;
  for (size_t r = 0; r < shape.counts.size(); ++r) keys += shape.befores[r] + shape.counts[r];
  const auto slot_bytes = static_cast<double>(step.k_cache[0].nbytes());
  const double bytes = 2.0 * static_cast<double>(keys) * slot_bytes;
  const double attend = Microseconds(20, [&](int) {
    operators.attend(step.q, step.k_cache, step.v_cache, step.row_starts, step.kv_starts,
                     step.kv_lengths);
  });
  const double image = Microseconds(20, [&](int) {
    operators.attend_image(step.q, step.image_k, step.image_v, step.image_slots);
  });
  const double rope = Microseconds(20, [&](int) {
    operators.rope_write(step.qkv, step.cos, step.sin, step.kv_slots, step.k_cache, step.v_cache);
  });
  const at::Tensor x = step.q.reshape({step.q.size(0), -1});
  const at::Tensor weight = x[0].clone();
  const double norm = Microseconds(20, [&](int) { operators.rms_norm(x, weight, kEps); });
  const at::Tensor gate_up = at::randn({x.size(0), 22016}, x.options());
  const double gate = Microseconds(20, [&](int) { operators.swiglu(gate_up); });
  std::printf(
      "%-34s attend %8.1f us (keys and values once: %6.0f GB/s), image %6.1f, rope %5.1f, "
      "norm %5.1f, swiglu %5.1f us\n",
      (shape.name + storage.name).c_str(), attend, bytes / attend / 1000, image, rope, norm, gate);
}

std::vector<StepShape> WideShapes() {
  return {
      {"9b decode, 1 row of 1000", {1}, {1000}, 32, 128, 64},
      {"9b decode, 8 rows of 1000", std::vector<int64_t>(8, 1), std::vector<int64_t>(8, 1000), 32,
       128, 64},
      {"9b prompt of 512", {512}, {0}, 32, 128, 64},
      {"9b prompt of 256 and 8 rows",
       {256, 1, 1, 1, 1, 1, 1, 1, 1},
       {0, 500, 500, 500, 500, 500, 500, 500, 500},
       32,
       128,
       64},
  };
}

}  // namespace

void CompareOperators() {
  std::vector<StepShape> shapes = StepShapes();
  for (const StepShape& shape : WideShapes()) shapes.push_back(shape);
  for (const StepShape& shape : shapes) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      for (const Storage& storage : kStorages) {
        CompareEager(shape, type, storage);
        CompareGraph(shape, type, storage);
      }
    }
  }
}

void TimeOperators() {
  for (const StepShape& shape : WideShapes()) {
    for (const Storage& storage : kStorages) TimeShape(shape, storage);
  }
}

}  // namespace idefics::test
