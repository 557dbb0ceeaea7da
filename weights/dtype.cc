// SPDX-License-Identifier: Apache-2.0
#include "weights/dtype.h"

#include <array>

namespace idefics {
namespace {

struct Row {
  DType dtype;
  uint64_t size;
  const char* name;
  const char* safetensors_name;
};

// In the order of DType.
constexpr std::array<Row, 8> kRows = {{{DType::kF32, 4, "f32", "F32"},
                                       {DType::kBF16, 2, "bf16", "BF16"},
                                       {DType::kF16, 2, "f16", "F16"},
                                       {DType::kI64, 8, "i64", "I64"},
                                       {DType::kI32, 4, "i32", "I32"},
                                       {DType::kI8, 1, "i8", "I8"},
                                       {DType::kU8, 1, "u8", "U8"},
                                       {DType::kF8E4M3, 1, "f8_e4m3", "F8_E4M3"}}};

}  // namespace

uint64_t DTypeSize(DType dtype) { return kRows[static_cast<size_t>(dtype)].size; }

const char* DTypeName(DType dtype) { return kRows[static_cast<size_t>(dtype)].name; }

std::optional<DType> ParseDType(std::string_view name) {
  for (const Row& row : kRows) {
    if (name == row.name) return row.dtype;
  }
  return std::nullopt;
}

std::optional<DType> ParseSafetensorsDType(std::string_view name) {
  for (const Row& row : kRows) {
    if (name == row.safetensors_name) return row.dtype;
  }
  return std::nullopt;
}

}  // namespace idefics
