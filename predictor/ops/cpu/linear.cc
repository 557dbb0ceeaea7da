// SPDX-License-Identifier: Apache-2.0
// The packed linear operators on the CPU: chooses the kernels, turns activations into their words,
// divides the tiles among the threads and rounds the sums to the activations' type. Layouts of the
// weights: ../packed_weight.h.
#include "predictor/ops/cpu/linear.h"

#include <torch/library.h>

#include <algorithm>
#include <cstring>

#include "predictor/ops/cpu/instruction_sets.h"
#include "predictor/ops/cpu/linear_choice.h"
#include "predictor/ops/cpu/row_math.h"
#include "predictor/ops/cpu/scratch.h"
#include "predictor/ops/cpu/share_work.h"
#include "predictor/ops/operators.h"
#include "predictor/ops/packed_weight.h"
#include "predictor/ops/reference/reference.h"

namespace idefics {
namespace {

// What a thread takes at a time: words of weights, for as many rows as one pass over them takes.
constexpr int64_t kShareWords = 1 << 16;
constexpr int64_t kPassRows = 8;
// The least rows that are worth a reading of a tile's weights.
constexpr int64_t kPartRows = 64;

// An odd number of cache lines, so that the rows of a block do not share the sets of the cache.
int64_t RowStride(int64_t words) {
  const int64_t lines = CeilDiv(words, kLineWords);
  return (lines + (lines % 2 == 0 ? 1 : 0)) * kLineWords;
}

// f32, or pairs of bf16. A single row of whole words is not copied.
void TakeFloats(const at::Tensor& rows, Scratch* scratch, LinearArguments* arguments) {
  const int64_t row_bytes = rows.size(-1) * rows.element_size();
  const auto* const data = static_cast<const uint8_t*>(rows.const_data_ptr());
  if (arguments->m == 1 && row_bytes % 4 == 0) {
    arguments->x = reinterpret_cast<const uint32_t*>(data);
    arguments->x_stride = row_bytes / 4;
    return;
  }
  const int64_t words = CeilDiv(row_bytes, 4);
  arguments->x_stride = RowStride(words);
  auto* to = scratch->Take<uint32_t>(arguments->m * arguments->x_stride);
  arguments->x = to;
  for (int64_t m = 0; m < arguments->m; ++m, to += arguments->x_stride) {
    to[words - 1] = 0;  // the second half of an odd row's last pair
    std::memcpy(to, data + m * row_bytes, row_bytes);
  }
}

// as_shorts: quads of s8 as two words of 16-bit numbers (LinearArguments::x).
void TakeQuantized(const at::Tensor& rows, bool as_shorts, Scratch* scratch,
                   LinearArguments* arguments) {
  const int64_t m = arguments->m;
  const int64_t k = rows.size(-1);
  const int64_t padded = CeilDiv(k, 8) * 8;
  const int64_t groups = CeilDiv(k, kGroup);
  const int64_t stride = RowStride(as_shorts ? padded / 2 : padded / 4);
  auto* const words = scratch->Take<uint32_t>(m * stride);
  auto* const scale = scratch->Take<float>(m * groups);
  auto* const sum = scratch->Take<int32_t>(m * groups);
  ForElementType(rows.scalar_type(), "a quantized linear", [&](auto tag) {
    using T = decltype(tag);
    const T* const data = rows.const_data_ptr<T>();
    ShareRows(m, k, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        // Shorts are made where they lie, from the last one on: the bytes are their first half.
        auto* const q = reinterpret_cast<int8_t*>(words + row * stride);
        QuantizeRow(data + row * k, k, padded, {q, scale + row * groups, sum + row * groups});
        if (as_shorts) WidenQuads(padded / 4, q);
      }
    });
  });
  arguments->x = words;
  arguments->x_stride = stride;
  arguments->groups = groups;
  arguments->x_scale = scale;
  arguments->x_sum = sum;
}

// x [..., k], m rows, one after the other: without a copy where it is contiguous.
at::Tensor RowsOf(const at::Tensor& x, LinearArguments* arguments) {
  TORCH_CHECK(x.dim() >= 1 && x.size(-1) > 0, "a linear takes rows, not ", x.sizes());
  arguments->m = x.numel() / x.size(-1);
  return x.contiguous();
}

// Into how many parts to divide the rows, so that few threads wait at the end: 20 tiles keep 16
// threads for as long as 32 would, and 60 thirds of them as 64.
int64_t RowParts(int64_t tiles, int64_t rows, int64_t threads) {
  constexpr double kBusy = 0.9;
  const auto busy = [&](int64_t parts) {
    const int64_t items = tiles * parts;
    return static_cast<double>(items) / static_cast<double>(CeilDiv(items, threads) * threads);
  };
  int64_t best = 1;
  for (int64_t parts = 2; parts <= rows / kPartRows && busy(best) < kBusy; ++parts) {
    if (busy(parts) > busy(best)) best = parts;
  }
  return best;
}

// Computes all rows' outputs of the tiles begin … end - 1, rounded to T: out [m, n].
template <typename T>
void RunTiles(LinearKernel kernel, const LinearArguments& a, int64_t begin, int64_t end, int64_t n,
              T* out) {
  kernel(a, begin, end);
  const int64_t column = begin * kTileColumns;
  const int64_t columns = std::min(n, end * kTileColumns) - column;
  for (int64_t row = 0; row < a.m; ++row) {
    NarrowRow(a.y + row * a.y_stride + column, out + row * n + column, columns);
  }
}

// Shares tiles, or parts of the rows of each tile, among the threads. REQUIRES: `arguments` is
// complete but for y.
at::Tensor Multiply(LinearKernel kernel, LinearArguments arguments, const at::Tensor& x, int64_t n,
                    Scratch* scratch) {
  const int64_t tiles = CeilDiv(n, kTileColumns);
  const int64_t m = arguments.m;
  arguments.y_stride = tiles * kTileColumns + kLineWords;
  arguments.y = scratch->Take<float>(m * arguments.y_stride);
  c10::DimVector shape(x.sizes());
  shape.back() = n;
  at::Tensor out = Uninitialized(shape, x);
  if (m == 0) return out;
  const int64_t parts = RowParts(tiles, m, at::get_num_threads());
  const int64_t passes = CeilDiv(CeilDiv(m, parts), kPassRows);
  const int64_t share = kShareWords / (arguments.steps * kTileColumns * passes);
  ForElementType(x.scalar_type(), "a linear", [&](auto tag) {
    auto* const to = out.data_ptr<decltype(tag)>();
    const auto run = [&](int64_t begin, int64_t end) {
      if (parts == 1) return RunTiles(kernel, arguments, begin, end, n, to);
      for (int64_t item = begin; item < end; ++item) {
        const int64_t tile = item / parts;
        const int64_t part = item % parts;
        const int64_t row = m * part / parts;
        const int64_t rows = m * (part + 1) / parts - row;
        RunTiles(kernel, arguments.Rows(row, rows), tile, tile + 1, n, to + row * n);
      }
    };
    ShareWork(tiles * parts, std::max<int64_t>(1, share), m * n * x.size(-1), run);
  });
  return out;
}

const LinearKernels& ChosenKernels() {
  const InstructionSetChoice choice = ChooseInstructionSet();
  TORCH_CHECK(choice.set != nullptr, choice.why);
  const LinearKernels* const kernels = LinearKernelsFor(*choice.set);
  TORCH_CHECK(kernels != nullptr, "there are no kernels for ", choice.set->name);
  return *kernels;
}

}  // namespace

const LinearKernels& ChooseLinearKernels() {
  static const LinearKernels& kernels = ChosenKernels();
  return kernels;
}

at::Tensor LinearPacked(const at::Tensor& x, const at::Tensor& weight, int64_t n,
                        const LinearKernels& kernels) {
  const bool f32 = x.scalar_type() == at::kFloat;
  if ((!f32 && x.scalar_type() != at::kBFloat16) || weight.scalar_type() != x.scalar_type()) {
    return reference::LinearPacked(x, weight, n);
  }
  LinearArguments arguments;
  const at::Tensor rows = RowsOf(x, &arguments);
  const int64_t k = x.size(-1);
  CheckPacked(weight, n, k);
  arguments.steps = WordsOf(f32 ? LinearForm::kF32 : LinearForm::kBF16, k);
  arguments.w = static_cast<const uint32_t*>(weight.const_data_ptr());
  Scratch scratch;
  TakeFloats(rows, &scratch, &arguments);
  return Multiply(f32 ? kernels.f32 : kernels.bf16, arguments, x, n, &scratch);
}

at::Tensor LinearInt8(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                      int64_t n, const LinearKernels& kernels) {
  LinearArguments arguments;
  const at::Tensor rows = RowsOf(x, &arguments);
  CheckInt8(weight, scale, n, x.size(-1));
  arguments.steps = WordsOf(LinearForm::kInt8, x.size(-1));
  arguments.w = reinterpret_cast<const uint32_t*>(weight.const_data_ptr<uint8_t>());
  arguments.w_scale = scale.const_data_ptr<float>();
  Scratch scratch;
  TakeQuantized(rows, kernels.int8_takes_shorts, &scratch, &arguments);
  return Multiply(kernels.int8, arguments, x, n, &scratch);
}

at::Tensor LinearInt4(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                      int64_t n, const LinearKernels& kernels) {
  LinearArguments arguments;
  const at::Tensor rows = RowsOf(x, &arguments);
  CheckInt4(weight, scale, n, x.size(-1));
  arguments.steps = WordsOf(LinearForm::kInt4, x.size(-1));
  arguments.w = reinterpret_cast<const uint32_t*>(weight.const_data_ptr<uint8_t>());
  arguments.w_range = reinterpret_cast<const uint16_t*>(scale.const_data_ptr<at::BFloat16>());
  Scratch scratch;
  TakeQuantized(rows, /*as_shorts=*/false, &scratch, &arguments);
  return Multiply(kernels.int4, arguments, x, n, &scratch);
}

namespace {

at::Tensor Packed(const at::Tensor& x, const at::Tensor& weight, int64_t n) {
  return LinearPacked(x, weight, n, ChooseLinearKernels());
}

at::Tensor Int8(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale, int64_t n) {
  return LinearInt8(x, weight, scale, n, ChooseLinearKernels());
}

at::Tensor Int4(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale, int64_t n) {
  return LinearInt4(x, weight, scale, n, ChooseLinearKernels());
}

}  // namespace

TORCH_LIBRARY_IMPL(idefics, CPU, library) {
  library.impl("linear_packed", Packed);
  library.impl("linear_int8", Int8);
  library.impl("linear_int4", Int4);
}

}  // namespace idefics
