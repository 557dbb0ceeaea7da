// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace idefics {

// Whether a chip's tensor cores multiply fp8. Properties: cudaDeviceProp.
template <typename Properties>
bool MultipliesFp8(const Properties& chip) {
  return chip.major * 10 + chip.minor >= 89;
}

}  // namespace idefics
