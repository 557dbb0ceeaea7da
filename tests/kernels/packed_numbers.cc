// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/packed_numbers.h"

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace idefics::test {
namespace {

int64_t ValuesOfWord(WeightKind kind) {
  switch (kind) {
    case WeightKind::kF32:
      return 1;
    case WeightKind::kBf16:
      return 2;
    case WeightKind::kInt8:
      return 4;
    case WeightKind::kInt4:
      return 8;
  }
  std::abort();
}

float Widened(uint16_t bf16) { return std::bit_cast<float>(static_cast<uint32_t>(bf16) << 16); }
uint16_t HighHalf(float value) {
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
}

float Uniform(std::mt19937& random) { return static_cast<float>(random()) / 4294967296.0f * 2 - 1; }
int Between(std::mt19937& random, int low, int high) {
  return low + static_cast<int>(random() % static_cast<uint32_t>(high - low + 1));
}

}  // namespace

PackedProduct::PackedProduct(WeightKind kind, const ProductSize& size, bool as_shorts,
                             std::mt19937& random)
    : kind_(kind),
      size_(size),
      tiles_(CeilDiv(size.n, kTileColumns)),
      steps_(CeilDiv(size.k, ValuesOfWord(kind))),
      groups_(CeilDiv(size.k, kGroup)),
      x_(size.m * size.k),
      w_(size.n * size.k),
      w_words_(tiles_ * steps_ * kTileColumns) {
  if (kind == WeightKind::kF32 || kind == WeightKind::kBf16) {
    MakeFloats(random);
  } else {
    MakeInts(random, as_shorts);
  }
}

void PackedProduct::MakeFloats(std::mt19937& random) {
  const bool bf16 = kind_ == WeightKind::kBf16;
  x_stride_ = steps_ + 3;
  x_words_.resize(size_.m * x_stride_);
  const auto pack = [&](std::vector<float>& values, int64_t rows, const auto& word_of) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < size_.k; ++i) {
        float& value = values[row * size_.k + i];
        value = Uniform(random);
        if (bf16) value = Widened(HighHalf(value));
        uint32_t& word = word_of(row, bf16 ? i / 2 : i);
        word |= bf16 ? static_cast<uint32_t>(HighHalf(value)) << (i % 2 * 16)
                     : std::bit_cast<uint32_t>(value);
      }
    }
  };
  pack(x_, size_.m,
       [&](int64_t row, int64_t i) -> uint32_t& { return x_words_[row * x_stride_ + i]; });
  pack(w_, size_.n, [&](int64_t row, int64_t i) -> uint32_t& {
    return w_words_[(row / kTileColumns * steps_ + i) * kTileColumns + row % kTileColumns];
  });
}

void PackedProduct::MakeInts(std::mt19937& random, bool as_shorts) {
  const bool int8 = kind_ == WeightKind::kInt8;
  const bool shorts = int8 && as_shorts;
  const int64_t padded = CeilDiv(size_.k, 8) * 8;
  x_stride_ = padded / (shorts ? 2 : 4) + 3;
  x_words_.resize(size_.m * x_stride_);
  x_scale_.resize(size_.m * groups_);
  x_sum_.resize(size_.m * groups_);
  for (float& scale : x_scale_) scale = Uniform(random);
  for (int64_t row = 0; row < size_.m; ++row) {
    auto* const bytes = reinterpret_cast<int8_t*>(&x_words_[row * x_stride_]);
    auto* const wide = reinterpret_cast<int16_t*>(&x_words_[row * x_stride_]);
    constexpr int kPlace[] = {0, 2, 1, 3};  // of a number among the shorts of its quad
    for (int64_t i = 0; i < size_.k; ++i) {
      const int q = Between(random, -127, 127);
      x_[row * size_.k + i] = static_cast<float>(q);
      x_sum_[row * groups_ + i / kGroup] += q;
      if (shorts) {
        wide[i / 4 * 4 + kPlace[i % 4]] = static_cast<int16_t>(q);
      } else {
        bytes[i] = static_cast<int8_t>(q);
      }
    }
  }
  for (int64_t column = 0; column < size_.n; ++column) {
    for (int64_t i = 0; i < size_.k; ++i) {
      const int q = int8 ? Between(random, -128, 127) : Between(random, 0, 15);
      w_[column * size_.k + i] = static_cast<float>(q);
      const int64_t place = column / kTileColumns * steps_ + i / ValuesOfWord(kind_);
      uint32_t& word = w_words_[place * kTileColumns + column % kTileColumns];
      word |= int8 ? static_cast<uint32_t>(q + 128) << (i % 4 * 8)
                   : static_cast<uint32_t>(q) << (i % 4 * 8 + i % 8 / 4 * 4);
    }
  }
  w_scale_.resize(tiles_ * kTileColumns);
  for (float& scale : w_scale_) scale = Uniform(random);
  w_range_.resize(tiles_ * groups_ * 2 * kTileColumns);
  for (uint16_t& number : w_range_) number = HighHalf(Uniform(random));
}

std::vector<float> PackedProduct::Run(LinearKernel kernel, int64_t first, int64_t rows) {
  const int64_t y_stride = tiles_ * kTileColumns + kLineWords;
  std::vector<float> y(rows * y_stride);
  LinearArguments arguments;
  arguments.x = &x_words_[first * x_stride_];
  arguments.w = w_words_.data();
  arguments.y = y.data();
  arguments.m = rows;
  arguments.x_stride = x_stride_;
  arguments.y_stride = y_stride;
  arguments.steps = steps_;
  if (!x_sum_.empty()) {
    arguments.x_scale = &x_scale_[first * groups_];
    arguments.x_sum = &x_sum_[first * groups_];
    arguments.w_scale = w_scale_.data();
    arguments.w_range = w_range_.data();
    arguments.groups = groups_;
  }
  kernel(arguments, 0, tiles_);
  std::vector<float> result(rows * size_.n);
  for (int64_t row = 0; row < rows; ++row) {
    std::memcpy(&result[row * size_.n], &y[row * y_stride], size_.n * sizeof(float));
  }
  return result;
}

float PackedProduct::FloatSum(int64_t row, int64_t column) const {
  float sum = 0;
  for (int64_t i = 0; i < size_.k; ++i) {
    sum = std::fma(w_[column * size_.k + i], x_[row * size_.k + i], sum);
  }
  return sum;
}

float PackedProduct::IntSum(int64_t row, int64_t column) const {
  const int64_t tile = column / kTileColumns;
  float total = 0;
  for (int64_t group = 0; group < groups_; ++group) {
    int32_t sum = 0;
    for (int64_t i = group * kGroup; i < size_.k && i < (group + 1) * kGroup; ++i) {
      sum += static_cast<int32_t>(w_[column * size_.k + i] * x_[row * size_.k + i]);
    }
    const float scale = x_scale_[row * groups_ + group];
    if (kind_ == WeightKind::kInt8) {
      total = std::fma(static_cast<float>(sum), scale, total);
    } else {
      const uint16_t* const range =
          &w_range_[(tile * groups_ + group) * 2 * kTileColumns + column % kTileColumns];
      const float offset = scale * static_cast<float>(x_sum_[row * groups_ + group]);
      total = std::fma(Widened(range[0]) * scale, static_cast<float>(sum), total);
      total = std::fma(Widened(range[kTileColumns]), offset, total);
    }
  }
  return kind_ == WeightKind::kInt8 ? total * w_scale_[column] : total;
}

std::vector<float> PackedProduct::Expected() const {
  std::vector<float> y;
  for (int64_t row = 0; row < size_.m; ++row) {
    for (int64_t column = 0; column < size_.n; ++column) {
      y.push_back(x_sum_.empty() ? FloatSum(row, column) : IntSum(row, column));
    }
  }
  return y;
}

std::vector<float> PackedProduct::Magnitudes() const {
  std::vector<float> y(size_.m * size_.n);
  for (int64_t row = 0; row < size_.m; ++row) {
    for (int64_t column = 0; column < size_.n; ++column) {
      for (int64_t i = 0; i < size_.k; ++i) {
        // Scales and ranges of ints are at most 1, their minimum counts as one more step.
        const float w = std::abs(w_[column * size_.k + i]) + (x_sum_.empty() ? 0.0f : 1.0f);
        y[row * size_.n + column] += w * std::abs(x_[row * size_.k + i]);
      }
    }
  }
  return y;
}

}  // namespace idefics::test
