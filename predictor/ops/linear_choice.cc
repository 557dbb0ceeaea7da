// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/linear_choice.h"

#include <cstdlib>
#include <string_view>

namespace idefics {
namespace {

#if defined(__x86_64__)
bool HasAvx2() { return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0; }

bool HasAvx512() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512dq") != 0;
}

bool HasAvx512Dot() {
  return HasAvx512() && __builtin_cpu_supports("avx512bf16") != 0 &&
         __builtin_cpu_supports("avx512vnni") != 0;
}
#endif

const LinearKernels& BestLinearKernels() {
  const std::vector<const LinearKernels*> usable = UsableLinearKernels();
  const char* const wish = std::getenv("IDEFICS_CPU");
  for (const LinearKernels* kernels : usable) {
    if (wish != nullptr && std::string_view(wish) == kernels->name) return *kernels;
  }
  return *usable.front();
}

}  // namespace

std::vector<const LinearKernels*> UsableLinearKernels() {
  std::vector<const LinearKernels*> usable;
#if defined(__x86_64__)
  if (HasAvx512Dot()) usable.push_back(LinearKernelsAvx512Dot());
  if (HasAvx512()) usable.push_back(LinearKernelsAvx512());
  if (HasAvx2()) usable.push_back(LinearKernelsAvx2());
#endif
  usable.push_back(LinearKernelsPortable());
  return usable;
}

const LinearKernels& ChooseLinearKernels() {
  static const LinearKernels& kernels = BestLinearKernels();
  return kernels;
}

}  // namespace idefics
