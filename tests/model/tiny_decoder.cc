// SPDX-License-Identifier: Apache-2.0
#include "tests/model/tiny_decoder.h"

#include <ATen/ATen.h>

#include <numeric>

#include "tests/model/packed_linears.h"

namespace idefics::test {
namespace {

constexpr int64_t kHeads = 4, kDim = 64, kWidth = kHeads * kDim, kExtent = 60;

}  // namespace

TinyDecoder::TinyDecoder(const Operators& operators, at::Device device) : ops_(operators) {
  at::manual_seed(7);
  const auto random = [&](at::IntArrayRef shape) {
    return at::randn(shape).to(at::kBFloat16).to(device);
  };
  embed_ = random({kVocab, kWidth});
  norm_ = random({kWidth});
  qkv_ = Tiled(at::randn({3 * kWidth, kWidth}).div(16).to(at::kBFloat16), 2).to(device);
  const Quantized int8 = RandomInt8({kVocab, kWidth});
  head_ = int8.weight.to(device);
  head_scale_ = int8.scale.to(device);
  image_k_ = random({3, kHeads, 8, kDim});
  image_v_ = random({3, kHeads, 8, kDim});
  k_cache_ = random({kSlots + 1, kHeads, kDim});
  v_cache_ = random({kSlots + 1, kHeads, kDim});
}

at::Tensor TinyDecoder::Forward(const std::vector<at::Tensor>& in) const {
  const at::Tensor even =
      at::arange(0, kDim, 2, at::TensorOptions(in[kPositionsArray].device()).dtype(at::kFloat));
  const at::Tensor angles = in[kPositionsArray].to(at::kFloat).unsqueeze(1) *
                            at::pow(10000.0, even / -static_cast<double>(kDim));
  at::Tensor x = at::embedding(embed_, in[kTokensArray]);
  const at::Tensor y = ops_.rms_norm(x, norm_, 1e-6);
  const at::Tensor q = ops_.rope_write(ops_.linear_packed(y, qkv_, 3 * kWidth), angles.cos(),
                                       angles.sin(), in[kKvSlotsArray], k_cache_, v_cache_);
  x = x + ops_.attend(q, k_cache_, v_cache_, in[kRowStartsArray], in[kKvStartsArray],
                      in[kKvLengthsArray]);
  x = x + ops_.attend_image(q, image_k_, image_v_, in[kImageSlotsArray]);
  return ops_.linear_int8(x.index_select(0, in[kSampleRowsArray]), head_, head_scale_, kVocab)
      .to(at::kFloat);
}

std::vector<at::Tensor> EagerInputs(const StepIndices& step, at::Device device) {
  std::vector<at::Tensor> inputs;
  for (const StepArray& array : kStepArrays) {
    const at::Tensor values =
        at::tensor(step.*array.values, at::TensorOptions(at::kInt)).to(device);
    inputs.push_back(array.columns == 1 ? values : values.view({-1, array.columns}));
  }
  return inputs;
}

TinyStep::TinyStep(const std::vector<int>& counts, int before)
    : tokens_(std::accumulate(counts.begin(), counts.end(), size_t{0})),
      images_(tokens_.size()),
      rows_(counts.size()) {
  size_t at = 0;
  for (size_t r = 0; r < rows_.size(); ++r) {
    const auto count = static_cast<size_t>(counts[r]);
    for (size_t t = at; t < at + count; ++t) {
      tokens_[t] =
          static_cast<int32_t>((7 * t + static_cast<size_t>(before)) % TinyDecoder::kVocab);
      images_[t] = static_cast<int32_t>((r + t / 5) % 4) - 1;
    }
    StepRow& row = rows_[r];
    row.tokens = {&tokens_[at], count};
    row.image_slots = {&images_[at], count};
    row.position = before + static_cast<int32_t>(r);
    row.kv_start = kExtent * static_cast<int64_t>(r);
    row.num_logits = count > 4 ? 1 : static_cast<int32_t>(count);
    at += count;
  }
}

}  // namespace idefics::test
