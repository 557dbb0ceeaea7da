// SPDX-License-Identifier: Apache-2.0
// The element types of stored tensors. Plain values, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace idefics {

enum class DType { kF32, kBF16, kF16, kI64, kI32, kI8, kU8, kF8E4M3 };

// Bytes of one element.
uint64_t DTypeSize(DType dtype);

// "f32", "bf16", "f16", "i64", "i32", "i8", "u8", "f8_e4m3": the spelling of bundle.json and of the
// flags.
const char* DTypeName(DType dtype);
std::optional<DType> ParseDType(std::string_view name);

// "F32", "BF16", …: the spelling of a safetensors header.
std::optional<DType> ParseSafetensorsDType(std::string_view name);

}  // namespace idefics
