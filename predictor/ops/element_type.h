// SPDX-License-Identifier: Apache-2.0
// The element types of the fast operators: f32, bf16 and f16.
#pragma once

#include <c10/core/ScalarType.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Exception.h>
#include <c10/util/Half.h>

namespace idefics {

// Calls run(T{}) with the C++ type of `type`; throws c10::Error for any other type.
template <typename Run>
void ForElementType(c10::ScalarType type, const char* op, const Run& run) {
  switch (type) {
    case c10::ScalarType::Float:
      return run(float{});
    case c10::ScalarType::BFloat16:
      return run(c10::BFloat16{});
    case c10::ScalarType::Half:
      return run(c10::Half{});
    default:
      TORCH_CHECK(false, op, " takes f32, bf16 or f16, not ", type);
  }
}

}  // namespace idefics
