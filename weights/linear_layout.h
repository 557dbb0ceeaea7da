// SPDX-License-Identifier: Apache-2.0
// How the weight W [n, k] of a linear is stored: the one description that the loader's
// checks, the operators and the tests of scripts/export/packing.py share. What the numbers in these
// tensors mean is in predictor/ops/packed_weight.h. Constants and pure functions, any thread.
#pragma once

#include <cstdint>

#include "weights/dtype.h"

namespace idefics {

constexpr int64_t kTileColumns = 64;  // output features of one tile
constexpr int64_t kGroup = 128;  // values of k that share an int4 scale, or an activation scale

// Tiles, words or groups that hold `a` values, `b` in each.
constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

enum class LinearForm { kF32, kBF16, kF16, kInt8, kInt4, kFp8 };

// A tensor's type and shape.
struct StoredTensor {
  DType dtype = DType::kF32;
  int rank = 0;  // 0: there is no such tensor
  int64_t sizes[4] = {};
};

struct LinearLayout {
  StoredTensor weight;
  StoredTensor scale;
};

// What the forms differ in.
struct LinearFormat {
  LinearForm form;
  const char* quantization;  // as in bundle.json; "fp8" is in no bundle, it is made while loading
  DType dtype;               // of the weight's tensor
  int64_t word_k;            // values of k in a 32-bit word
  int64_t word_numbers;      // numbers of `dtype` in a word: the last dimension; 1: there is none
  int64_t scale_rows;        // words of a column for its scale, behind those of k
  int64_t word_multiple;     // a column has a multiple of so many words of k
};

constexpr LinearFormat kLinearFormats[] = {
    {LinearForm::kF32, "none", DType::kF32, 1, 1, 0, 1},
    {LinearForm::kBF16, "none", DType::kBF16, 2, 2, 0, 1},
    {LinearForm::kF16, "none", DType::kF16, 2, 2, 0, 1},
    {LinearForm::kInt8, "int8", DType::kU8, 4, 4, 0, 1},
    {LinearForm::kInt4, "int4", DType::kU8, 8, 4, 0, 1},
    {LinearForm::kFp8, "fp8", DType::kF8E4M3, 4, 4, 1, 4},
};

constexpr const LinearFormat& FormatOf(LinearForm form) {
  return kLinearFormats[static_cast<int>(form)];
}

// What bundle.json may say; it gives the form together with the activations' type.
constexpr const char* kBundleQuantizations[] = {"none", "int8", "int4"};
constexpr const char* kVisionQuantizations[] = {"none", "int8"};

// The words of a column of W [n, k], without those of scale_rows.
constexpr int64_t WordsOf(LinearForm form, int64_t k) {
  const LinearFormat& format = FormatOf(form);
  return CeilDiv(k, format.word_k * format.word_multiple) * format.word_multiple;
}

constexpr LinearLayout LayoutOf(LinearForm form, int64_t n, int64_t k) {
  const LinearFormat& format = FormatOf(form);
  const int64_t tiles = CeilDiv(n, kTileColumns);
  LinearLayout layout;
  layout.weight = {
      format.dtype,
      format.word_numbers == 1 ? 3 : 4,
      {tiles, WordsOf(form, k) + format.scale_rows, kTileColumns, format.word_numbers}};
  if (form == LinearForm::kInt8) layout.scale = {DType::kF32, 2, {tiles, kTileColumns}};
  if (form == LinearForm::kInt4) {
    layout.scale = {DType::kBF16, 4, {tiles, CeilDiv(k, kGroup), 2, kTileColumns}};
  }
  return layout;
}

}  // namespace idefics
