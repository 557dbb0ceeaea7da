// SPDX-License-Identifier: Apache-2.0
#include "predictor/images/resize.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "common/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace idefics {
namespace {

constexpr int kPrecisionBits = 22;  // of the fixed-point weights, libImaging/Resample.c
constexpr int32_t kHalf = 1 << (kPrecisionBits - 1);
constexpr double kSupport = 2.0;  // of the bicubic filter, in output pixels
// Bytes the horizontal kernel takes at a time: a multiple of 3 colours and of 8, so
// that each of its 24 sums belongs to one colour.
constexpr size_t kBlock = 24;

// The input pixels of one output pixel: [first, first + weights.size()).
struct Window {
  int first = 0;
  std::vector<int32_t> weights;
};

double Bicubic(double x) {
  constexpr double kA = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * kA;
  return 0.0;
}

std::vector<Window> MakeWindows(int in_size, int out_size) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double filter_scale = std::max(scale, 1.0);
  const double support = kSupport * filter_scale;
  const double inverse = 1.0 / filter_scale;
  std::vector<Window> windows(static_cast<size_t>(out_size));
  std::vector<double> weights;
  for (int i = 0; i < out_size; ++i) {
    const double center = (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int last = std::min(static_cast<int>(center + support + 0.5), in_size);
    weights.clear();
    double sum = 0;
    for (int k = first; k < last; ++k) {
      weights.push_back(Bicubic((k - center + 0.5) * inverse));
      sum += weights.back();
    }
    Window& window = windows[static_cast<size_t>(i)];
    window.first = first;
    for (const double weight : weights) {
      const double scaled = (sum != 0 ? weight / sum : weight) * (1 << kPrecisionBits);
      window.weights.push_back(static_cast<int32_t>(scaled + (scaled < 0 ? -0.5 : 0.5)));
    }
  }
  return windows;
}

uint8_t ToByte(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
}

// The windows of a row as one table: every weight three times (once a colour), every window padded
// with zeros to num_blocks blocks and moved left where the padding would leave the row.
struct RowTable {
  size_t num_blocks = 0;
  std::vector<size_t> first_bytes;  // [outputs]
  std::vector<int32_t> weights;     // [outputs, num_blocks * kBlock]
};

RowTable MakeRowTable(const std::vector<Window>& windows, size_t row_bytes) {
  RowTable table;
  size_t most = 0;
  for (const Window& window : windows) most = std::max(most, 3 * window.weights.size());
  table.num_blocks = (most + kBlock - 1) / kBlock;
  const size_t padded = table.num_blocks * kBlock;
  table.weights.resize(windows.size() * padded);
  const size_t last_start = std::max(row_bytes, padded) - padded;
  for (size_t i = 0; i < windows.size(); ++i) {
    const size_t start = 3 * static_cast<size_t>(windows[i].first);
    table.first_bytes.push_back(std::min(start, last_start));
    int32_t* out = &table.weights[i * padded] + (start - table.first_bytes[i]);
    for (const int32_t weight : windows[i].weights) out = std::fill_n(out, 3, weight);
  }
  return table;
}

// The sums of one output pixel, 24 of them, added up by colour and rounded.
void StorePixel(const int32_t* sums, uint8_t* out) {
  int32_t colors[3] = {kHalf, kHalf, kHalf};
  for (size_t i = 0; i < kBlock; ++i) colors[i % 3] += sums[i];
  for (int c = 0; c < 3; ++c) out[c] = ToByte(colors[c]);
}

// in: one row -> out: [outputs, 3].
void ReduceRow(const RowTable& table, const uint8_t* in, uint8_t* out) {
  const int32_t* weights = table.weights.data();
  for (const size_t first_byte : table.first_bytes) {
    int32_t sums[kBlock] = {};
    const uint8_t* pixels = in + first_byte;
    for (size_t block = 0; block < table.num_blocks; ++block) {
      for (size_t i = 0; i < kBlock; ++i) sums[i] += pixels[i] * weights[i];
      pixels += kBlock;
      weights += kBlock;
    }
    StorePixel(sums, out);
    out += 3;
  }
}

#if defined(__x86_64__)
bool HasAvx2() { return __builtin_cpu_supports("avx2") != 0; }

// As ReduceRow for four rows, row_bytes apart: the table, larger than the L1 cache, is read once.
__attribute__((target("avx2"))) void ReduceFourRowsAvx2(const RowTable& table, const uint8_t* in,
                                                        size_t row_bytes, uint8_t* out) {
  constexpr int kRows = 4;
  constexpr int kVectors = 3;  // of 8 sums, in a block
  const size_t num_outputs = table.first_bytes.size();
  const auto* weights = reinterpret_cast<const __m256i*>(table.weights.data());
  for (size_t x = 0; x < num_outputs; ++x) {
    __m256i sums[kRows][kVectors] = {};
    const uint8_t* pixels = in + table.first_bytes[x];
    for (size_t block = 0; block < table.num_blocks; ++block) {
      for (int v = 0; v < kVectors; ++v, ++weights, pixels += 8) {
        const __m256i weight = _mm256_loadu_si256(weights);
        for (size_t row = 0; row < kRows; ++row) {
          const auto* bytes = reinterpret_cast<const __m128i*>(pixels + row * row_bytes);
          const __m256i values = _mm256_cvtepu8_epi32(_mm_loadl_epi64(bytes));
          sums[row][v] = _mm256_add_epi32(sums[row][v], _mm256_mullo_epi32(values, weight));
        }
      }
    }
    for (size_t row = 0; row < kRows; ++row) {
      alignas(32) int32_t spilled[kBlock];
      std::memcpy(spilled, sums[row], sizeof(spilled));
      StorePixel(spilled, out + (row * num_outputs + x) * 3);
    }
  }
}
#endif

bool Interrupted(const DecodeBudget* budget) { return budget != nullptr && budget->Interrupted(); }

// in: count rows of row_bytes; out: [count, outputs, 3].
void ReduceRows(const RowTable& table, std::span<const uint8_t> in, size_t row_bytes,
                const DecodeBudget* budget, uint8_t* out) {
  const size_t count = in.size() / row_bytes;
  const size_t out_bytes = table.first_bytes.size() * 3;
  size_t row = 0;
#if defined(__x86_64__)
  const bool has_avx2 = HasAvx2();
  for (; has_avx2 && row + 4 <= count && !Interrupted(budget); row += 4) {
    ReduceFourRowsAvx2(table, &in[row * row_bytes], row_bytes, out + row * out_bytes);
  }
#endif
  for (; row < count && !Interrupted(budget); ++row) {
    ReduceRow(table, &in[row * row_bytes], out + row * out_bytes);
  }
}

// Rows [first_row, last_row) of the image -> [last_row - first_row, width, 3].
RgbImage ResizeRows(const RgbImage& image, int width, int first_row, int last_row,
                    const DecodeBudget* budget) {
  const size_t row_bytes = static_cast<size_t>(image.width) * 3;
  const RowTable table = MakeRowTable(MakeWindows(image.width, width), row_bytes);
  RgbImage out{width, last_row - first_row, {}};
  const size_t count = static_cast<size_t>(out.height);
  out.pixels.resize(count * static_cast<size_t>(width) * 3);
  const std::span<const uint8_t> rows(
      image.pixels.data() + static_cast<size_t>(first_row) * row_bytes, count * row_bytes);
  const size_t padded = table.num_blocks * kBlock;
  if (row_bytes >= padded) {
    ReduceRows(table, rows, row_bytes, budget, out.pixels.data());
    return out;
  }
  // Rows shorter than a padded window get room behind them.
  std::vector<uint8_t> wide(count * padded);
  for (size_t row = 0; row < count; ++row) {
    std::copy_n(&rows[row * row_bytes], row_bytes, &wide[row * padded]);
  }
  ReduceRows(table, wide, padded, budget, out.pixels.data());
  return out;
}

// sums[i] += in[i] * weight.
[[gnu::always_inline]] inline void AddRowBy(const uint8_t* in, int32_t weight, size_t count,
                                            int32_t* sums) {
  for (size_t i = 0; i < count; ++i) sums[i] += in[i] * weight;
}

using AddRow = void (*)(const uint8_t* in, int32_t weight, size_t count, int32_t* sums);

void AddRowBaseline(const uint8_t* in, int32_t weight, size_t count, int32_t* sums) {
  AddRowBy(in, weight, count, sums);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void AddRowAvx2(const uint8_t* in, int32_t weight, size_t count,
                                                int32_t* sums) {
  AddRowBy(in, weight, count, sums);
}
#endif

AddRow ChooseAddRow() {
#if defined(__x86_64__)
  if (HasAvx2()) return AddRowAvx2;
#endif
  return AddRowBaseline;
}

// rows: the input rows from first_row on, [.., width, 3] -> [outputs, width, 3].
RgbImage ResizeColumns(const RgbImage& rows, const std::vector<Window>& windows, int first_row,
                       const DecodeBudget* budget) {
  const AddRow add_row = ChooseAddRow();
  const size_t row_bytes = static_cast<size_t>(rows.width) * 3;
  RgbImage out{rows.width, static_cast<int>(windows.size()), {}};
  out.pixels.resize(windows.size() * row_bytes);
  std::vector<int32_t> sums(row_bytes);
  uint8_t* target = out.pixels.data();
  for (const Window& window : windows) {
    std::fill(sums.begin(), sums.end(), kHalf);
    const uint8_t* in =
        rows.pixels.data() + static_cast<size_t>(window.first - first_row) * row_bytes;
    for (const int32_t weight : window.weights) {
      if (Interrupted(budget)) return out;
      add_row(in, weight, row_bytes, sums.data());
      in += row_bytes;
    }
    target = std::transform(sums.begin(), sums.end(), target, ToByte);
  }
  return out;
}

}  // namespace

RgbImage ResizeBicubic(const RgbImage& image, int width, int height, const DecodeBudget* budget) {
  IDEFICS_CHECK(image.width > 0 && image.height > 0 && width > 0 && height > 0);
  IDEFICS_CHECK_EQ(image.pixels.size(),
                   static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3);
  const bool same_height = image.height == height;
  if (image.width == width && same_height) return image;
  if (same_height) return ResizeRows(image, width, 0, height, budget);
  const std::vector<Window> windows = MakeWindows(image.height, height);
  if (image.width == width) return ResizeColumns(image, windows, 0, budget);
  if (image.height > int64_t{100} * image.width && height < image.height) {
    return ResizeRows(ResizeColumns(image, windows, 0, budget), width, 0, height, budget);
  }
  // Only the rows that the vertical pass will look at.
  const int first_row = windows.front().first;
  const int last_row = windows.back().first + static_cast<int>(windows.back().weights.size());
  return ResizeColumns(ResizeRows(image, width, first_row, last_row, budget), windows, first_row,
                       budget);
}

}  // namespace idefics
