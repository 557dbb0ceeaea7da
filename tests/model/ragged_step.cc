// SPDX-License-Identifier: Apache-2.0
#include "tests/model/ragged_step.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <limits>
#include <sstream>

#include "predictor/ops/kv_cache.h"
#include "predictor/ops/reference/reference.h"

namespace idefics::test {
namespace {

constexpr int64_t kGap = 3;  // unused slots between two rows
constexpr int64_t kEntries = 3;

at::Tensor Indices(const std::vector<int32_t>& values) {
  return at::tensor(values, at::TensorOptions().dtype(at::kInt));
}

}  // namespace

at::Tensor Random(at::IntArrayRef sizes, at::ScalarType type, uint64_t seed) {
  return at::randn(sizes, at::detail::createCPUGenerator(seed),
                   at::TensorOptions().dtype(at::kFloat))
      .to(type);
}

RaggedStep RaggedStep::To(at::Device device) const {
  RaggedStep there;
  const auto move = [&](const at::Tensor& tensor) {
    return tensor.to(device, false, /*copy=*/true);
  };
  there.qkv = move(qkv);
  there.q = move(q);
  there.cos = move(cos);
  there.sin = move(sin);
  there.k_cache = move(k_cache);
  there.v_cache = move(v_cache);
  there.kv_slots = move(kv_slots);
  there.row_starts = move(row_starts);
  there.kv_starts = move(kv_starts);
  there.kv_lengths = move(kv_lengths);
  there.image_k = move(image_k);
  there.image_v = move(image_v);
  there.image_slots = move(image_slots);
  return there;
}

RaggedStep RaggedStep::InInt8() const {
  RaggedStep step = *this;
  step.k_cache = reference::EncodeKv(k_cache);
  step.v_cache = reference::EncodeKv(v_cache);
  return step;
}

static at::Tensor Numbers(const at::Tensor& cache, int64_t heads) {
  return IsInt8Kv(cache) ? reference::DecodeKv(cache, heads) : cache;
}
at::Tensor RaggedStep::Keys() const { return Numbers(k_cache, q.size(1)); }
at::Tensor RaggedStep::Values() const { return Numbers(v_cache, q.size(1)); }

RaggedStep MakeStep(const StepShape& shape, at::ScalarType type, uint64_t seed) {
  const auto rows = static_cast<int64_t>(shape.counts.size());
  const auto shared_of = [&](int64_t row) { return shape.shared.empty() ? 0 : shape.shared[row]; };
  int64_t slots = kGap;
  for (int64_t r = 0; r < rows; ++r) {
    slots += shape.befores[r] - shared_of(r) + shape.counts[r] + kGap;
  }
  const int64_t shared_start = slots;  // after all rows
  if (!shape.shared.empty()) {
    slots += *std::max_element(shape.shared.begin(), shape.shared.end()) + kGap;
  }
  std::vector<int32_t> row_starts{0}, kv_starts, kv_lengths, kv_slots, entries;
  int64_t end = shared_start;  // rows from the back of the arena
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t length = shape.befores[r] + shape.counts[r];
    const int64_t shared = shared_of(r);
    const int64_t start = end - kGap - (length - shared);
    end = start;
    row_starts.push_back(static_cast<int32_t>(row_starts.back() + shape.counts[r]));
    for (const int64_t value : {shared_start, start}) {
      kv_starts.push_back(static_cast<int32_t>(value));
    }
    for (const int64_t value : {shared, length}) {
      kv_lengths.push_back(static_cast<int32_t>(value));
    }
    for (int64_t t = 0; t < shape.counts[r]; ++t) {
      kv_slots.push_back(static_cast<int32_t>(start + shape.befores[r] - shared + t));
      entries.push_back(static_cast<int32_t>((r + t / 5 + seed) % (kEntries + 1)) - 1);
    }
  }
  const int64_t tokens = row_starts.back();
  const int64_t width = shape.heads * shape.dim;
  RaggedStep step;
  step.qkv = Random({tokens, 3 * width}, type, seed);
  step.q = Random({tokens, shape.heads, shape.dim}, type, seed + 1);
  const at::Tensor angles = Random({tokens, shape.dim / 2}, at::kFloat, seed + 2) * 3;
  step.cos = angles.cos();
  step.sin = angles.sin();
  step.k_cache = Random({slots, shape.heads, shape.dim}, type, seed + 3);
  step.v_cache = Random({slots, shape.heads, shape.dim}, type, seed + 4);
  step.kv_slots = Indices(kv_slots);
  step.row_starts = Indices(row_starts);
  step.kv_starts = Indices(kv_starts).view({-1, 2});
  step.kv_lengths = Indices(kv_lengths).view({-1, 2});
  step.image_k = Random({kEntries, shape.heads, shape.latents, shape.dim}, type, seed + 5);
  step.image_v = Random({kEntries, shape.heads, shape.latents, shape.dim}, type, seed + 6);
  step.image_slots = Indices(entries);
  return step;
}

std::vector<StepShape> StepShapes() {
  return {
      {"one token, nothing before", {1}, {0}, 1, 16, 7},
      {"one long decode row", {1}, {300}, 2, 128, 64},
      {"decode rows", {1, 1, 1, 1, 1}, {0, 1, 31, 128, 200}, 3, 40, 64},
      {"one prompt", {45}, {0}, 2, 64, 64},
      {"prompt pieces", {33, 32, 6}, {0, 64, 17}, 2, 24, 9},
      {"prompts, short pieces and decode rows",
       {1, 40, 4, 1, 5, 3},
       {9, 0, 30, 70, 2, 0},
       2,
       80,
       64},
      {"as many tokens as rows, but unevenly", {2, 0, 1}, {4, 5, 6}, 2, 32, 8},
      {"heads of 20 numbers (no whole packs)", {37, 1}, {3, 50}, 3, 20, 33},
      {"heads of 96 numbers", {34, 2}, {1, 90}, 2, 96, 64},
      {"heads of 128 numbers", {50, 1, 1}, {7, 65, 0}, 1, 128, 257},
      {"heads of 256 numbers", {9, 1}, {4, 33}, 1, 256, 64},
      {"prompts of several tiles", {150, 1, 67}, {70, 9, 0}, 2, 64, 64},
      {"tiles of wide heads", {130, 20}, {3, 150}, 1, 128, 64},
      {"beams of one prompt", {1, 1, 1}, {45, 45, 160}, 2, 64, 8, {40, 40, 40}},
      {"pieces behind shared keys", {6, 40, 3}, {50, 40, 1}, 2, 32, 8, {33, 40, 0}},
  };
}

Difference Compare(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) {
    return {std::numeric_limits<double>::infinity(), "shape or dtype differ"};
  }
  if (a.numel() == 0) return {0, "empty"};
  const at::Tensor mine = a.to(at::kCPU).to(at::kDouble).flatten();
  const at::Tensor truth = b.to(at::kCPU).to(at::kDouble).flatten();
  at::Tensor tolerance;
  if (b.scalar_type() == at::kFloat) {
    tolerance = (truth.abs() + 1) * 1e-5;
  } else {
    const double unit = b.scalar_type() == at::kBFloat16 ? 0x1p-8 : 0x1p-11;
    tolerance = truth.abs().clamp_min(1.0 / 16).log2().floor().exp2() * (2 * 2 * unit);
  }
  const at::Tensor ratio =
      ((mine - truth).abs() / tolerance).nan_to_num(std::numeric_limits<double>::infinity());
  const int64_t worst = ratio.argmax().item<int64_t>();
  std::ostringstream text;
  text << "element " << worst << " of " << a.numel() << ": " << mine[worst].item<double>()
       << " instead of " << truth[worst].item<double>();
  return {ratio[worst].item<double>(), text.str()};
}

}  // namespace idefics::test
