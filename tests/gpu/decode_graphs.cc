// SPDX-License-Identifier: Apache-2.0
// predictor/model/cuda_graphs.cc on a decoder of one layer: replayed steps against eager ones.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>

#include <cmath>
#include <string>
#include <vector>

#include "predictor/model/cuda_graphs.h"
#include "tests/gpu/gpu_checks.h"
#include "tests/model/operators.h"
#include "tests/model/packed_linears.h"

namespace idefics::test {
namespace {

constexpr int64_t kHeads = 4, kDim = 64, kWidth = kHeads * kDim, kVocab = 100, kSlots = 256;
constexpr int32_t kScratch = kSlots;  // one slot more than sequences use

struct TinyDecoder {
  Operators ops = RegisteredOperators();
  at::Tensor embed, norm, qkv, head, head_scale, image_k, image_v, k_cache, v_cache;

  TinyDecoder() {
    at::manual_seed(7);
    const auto random = [](at::IntArrayRef shape) {
      return at::randn(shape).to(at::kBFloat16).to(at::kCUDA);
    };
    embed = random({kVocab, kWidth});
    norm = random({kWidth});
    qkv = random({3 * kWidth, kWidth});
    const Quantized int8 = RandomInt8({kVocab, kWidth});
    head = int8.weight.to(at::kCUDA);
    head_scale = int8.scale.to(at::kCUDA);
    image_k = random({3, kHeads, 8, kDim});
    image_v = random({3, kHeads, 8, kDim});
    k_cache = random({kSlots + 1, kHeads, kDim});
    v_cache = random({kSlots + 1, kHeads, kDim});
  }

  // in: kStepArrays.
  at::Tensor Forward(const std::vector<at::Tensor>& in) const {
    const at::Tensor even = at::arange(0, kDim, 2, at::TensorOptions(at::kCUDA).dtype(at::kFloat));
    const at::Tensor angles =
        in[1].to(at::kFloat).unsqueeze(1) * at::pow(10000.0, even / -static_cast<double>(kDim));
    at::Tensor x = at::embedding(embed, in[0]);
    const at::Tensor y = ops.rms_norm(x, norm, 1e-6);
    const at::Tensor q = ops.rope_write(ops.linear_packed(y, qkv, 3 * kWidth), angles.cos(),
                                        angles.sin(), in[2], k_cache, v_cache);
    x = x + ops.attend(q, k_cache, v_cache, in[4], in[5], in[6]);
    x = x + ops.attend_image(q, image_k, image_v, in[3]);
    return ops.linear_int8(x.index_select(0, in[7]), head, head_scale, kVocab).to(at::kFloat);
  }
};

std::vector<at::Tensor> EagerInputs(const StepIndices& step) {
  std::vector<at::Tensor> inputs;
  for (const StepArray& array : kStepArrays) {
    inputs.push_back(at::tensor(step.*array.values, at::TensorOptions(at::kInt)).to(at::kCUDA));
  }
  return inputs;
}

// Row r decodes token (7 r + at) at position `at + r` of the extent from 30 r on.
StepIndices DecodeStep(int rows, int at) {
  std::vector<int32_t> tokens, images;
  for (int r = 0; r < rows; ++r) {
    tokens.push_back((7 * r + at) % static_cast<int>(kVocab));
    images.push_back((r + at) % 4 - 1);
  }
  std::vector<StepRow> step(rows);
  for (int r = 0; r < rows; ++r) {
    step[r].tokens = {&tokens[r], 1};
    step[r].image_slots = {&images[r], 1};
    step[r].position = at + r;
    step[r].kv_start = 30 * r;
  }
  return StepIndices(step);
}

void CompareSteps() {
  const TinyDecoder mine, eager;
  const auto graphs =
      MakeDecodeGraphs(at::Device(at::kCUDA), kScratch, [&](const DecodeGraphs::Tensors& inputs) {
        return DecodeGraphs::Tensors{mine.Forward(inputs)};
      });
  mine.Forward(EagerInputs(DecodeStep(1, 0)));
  graphs->Capture(8);
  int replayed = 0;
  for (int at = 0; at < 6; ++at) {
    for (const int rows : {1, 3, 8, 5}) {  // 5 and 8 share a graph
      const std::string where =
          "decode graph, " + std::to_string(rows) + " rows, step " + std::to_string(at);
      const StepIndices step = DecodeStep(rows, at);
      const DecodeGraphs::Tensors outputs = graphs->Run(step);
      replayed += outputs.empty() ? 0 : 1;
      const at::Tensor logits = outputs.empty() ? mine.Forward(EagerInputs(step)) : outputs[0];
      ExpectEqual(where, logits.to(at::kCPU), eager.Forward(EagerInputs(step)).to(at::kCPU));
    }
  }
  Expect(replayed == 6 * 4, "every decode step is replayed");
  Expect(graphs->Run(DecodeStep(9, 0)).empty(), "a step of more rows than were captured is not");
  ExpectEqual("decode graphs, keys", mine.k_cache.narrow(0, 0, kSlots),
              eager.k_cache.narrow(0, 0, kSlots));
  ExpectEqual("decode graphs, values", mine.v_cache.narrow(0, 0, kSlots),
              eager.v_cache.narrow(0, 0, kSlots));
}

// A step that waits for the device cannot be captured: it, and all others, run eagerly.
void CompareFailure() {
  const TinyDecoder decoder;
  const auto graphs =
      MakeDecodeGraphs(at::Device(at::kCUDA), kScratch, [&](const DecodeGraphs::Tensors& inputs) {
        const at::Tensor logits = decoder.Forward(inputs);
        return DecodeGraphs::Tensors{logits * logits.abs().max().item<float>()};
      });
  graphs->Capture(4);
  for (int at = 0; at < 3; ++at) {
    Expect(graphs->Run(DecodeStep(2, at)).empty(), "a step that cannot be captured runs eagerly");
    const at::Tensor logits = decoder.Forward(EagerInputs(DecodeStep(2, at)));
    Expect(at::isfinite(logits).all().item<bool>(), "the device works after a failed capture");
  }
}

}  // namespace

void CompareDecodeGraphs() {
  CompareSteps();
  CompareFailure();
}

}  // namespace idefics::test
