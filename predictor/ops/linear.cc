// SPDX-License-Identifier: Apache-2.0
// idefics::linear on the CPU: picks the kernels of the machine and shares the columns among the
// threads.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "predictor/ops/linear_kernels.h"
#include "predictor/ops/reference.h"

namespace idefics {
namespace {

// Below this many products one thread is faster than waking another.
constexpr int64_t kSerialProducts = 1 << 17;
// Columns that one thread takes at a time: a multiple of every tile width.
constexpr int64_t kColumnGrain = 48;

#if defined(__x86_64__)
bool Avx512Here() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512dq") != 0;
}

const LinearKernels& BestLinearKernels() {
  const char* wish = std::getenv("IDEFICS_CPU");
  const std::string_view at_most = wish == nullptr ? "" : wish;
  if (at_most == "portable") return *LinearKernelsPortable();
  if (at_most != "avx2" && Avx512Here()) {
    const bool dot = at_most != "avx512" && __builtin_cpu_supports("avx512bf16") != 0;
    return dot ? *LinearKernelsAvx512Bf16() : *LinearKernelsAvx512();
  }
  const bool avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
  return avx2 ? *LinearKernelsAvx2() : *LinearKernelsPortable();
}
#else
const LinearKernels& BestLinearKernels() { return *LinearKernelsPortable(); }
#endif

// x [..., k], weight [n, k], bias [n] → [..., n]. Types and layouts that no kernel takes go to
// ATen.
at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias) {
  const LinearKernels& kernels = ChooseLinearKernels();
  const LinearKernel kernel = x.scalar_type() == at::kFloat      ? kernels.f32
                              : x.scalar_type() == at::kBFloat16 ? kernels.bf16
                                                                 : nullptr;
  if (kernel == nullptr || weight.scalar_type() != x.scalar_type() || !weight.is_contiguous()) {
    return reference::Linear(x, weight, bias);
  }
  TORCH_CHECK(x.dim() >= 1 && weight.dim() == 2 && x.size(-1) == weight.size(1),
              "idefics::linear: x ", x.sizes(), " does not fit weight ", weight.sizes());
  TORCH_CHECK(!bias || (bias->numel() == weight.size(0) && bias->is_contiguous() &&
                        bias->scalar_type() == x.scalar_type()),
              "idefics::linear: the bias does not fit weight ", weight.sizes());
  const at::Tensor rows = x.contiguous();
  auto shape = x.sizes().vec();
  shape.back() = weight.size(0);
  at::Tensor y = at::empty(shape, x.options());
  LinearArguments arguments;
  arguments.x = rows.const_data_ptr();
  arguments.w = weight.const_data_ptr();
  arguments.bias = bias ? bias->const_data_ptr() : nullptr;
  arguments.y = y.data_ptr();
  arguments.n = weight.size(0);
  arguments.k = weight.size(1);
  arguments.m = arguments.k == 0 ? 0 : rows.numel() / arguments.k;
  if (arguments.m * arguments.n * arguments.k < kSerialProducts) {
    kernel(arguments, 0, arguments.n);
    return y;
  }
  const int64_t grains = (arguments.n + kColumnGrain - 1) / kColumnGrain;
  at::parallel_for(0, grains, 1, [&](int64_t begin, int64_t end) {
    kernel(arguments, begin * kColumnGrain, std::min(arguments.n, end * kColumnGrain));
  });
  return y;
}

}  // namespace

const LinearKernels& ChooseLinearKernels() {
  static const LinearKernels& kernels = BestLinearKernels();
  return kernels;
}

TORCH_LIBRARY_IMPL(idefics, CPU, library) { library.impl("linear", Linear); }

}  // namespace idefics
