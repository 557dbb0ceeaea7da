// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/cpu/linear_choice.h"

#include <string_view>
#include <utility>

namespace idefics {
namespace {

using KernelsOf = const LinearKernels* (*)();
constexpr std::pair<const char*, KernelsOf> kKernels[] = {
#if defined(__x86_64__)
    {"amx", LinearKernelsAmx},
    {"avx512_bf16", LinearKernelsAvx512Bf16},
    {"avx512_vnni", LinearKernelsAvx512Vnni},
    {"avx512", LinearKernelsAvx512},
    {"avx_vnni", LinearKernelsAvxVnni},
    {"avx2", LinearKernelsAvx2},
#elif defined(__aarch64__)
    {"neon_i8mm", LinearKernelsNeonI8mm},
    {"neon_dotprod", LinearKernelsNeonDotprod},
#endif
    {"portable", LinearKernelsPortable},
};

}  // namespace

const LinearKernels* LinearKernelsFor(const InstructionSet& set) {
  for (const auto& [name, kernels] : kKernels) {
    if (std::string_view(name) == set.name) return kernels();
  }
  return nullptr;
}

std::vector<const LinearKernels*> UsableLinearKernels() {
  std::vector<const LinearKernels*> usable;
  for (const InstructionSet& set : InstructionSets()) {
    if (set.Usable()) usable.push_back(LinearKernelsFor(set));
  }
  return usable;
}

}  // namespace idefics
