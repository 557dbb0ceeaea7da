// SPDX-License-Identifier: Apache-2.0
// The linears' kernels of every instruction set that this CPU has, against sums a number at a time:
// the same bits where linear_kernels.h promises them, and within a rounding of each step elsewhere.
// A program of its own, so that an emulator of another kind of CPU needs nothing but it
// (scripts/arm64_test.sh). IDEFICS_CPU=NAME checks only that set. Exit status 1: something differs.
#include <cmath>
#include <cstdio>
#include <string_view>

#include "predictor/ops/cpu/linear_choice.h"
#include "tests/kernels/emulated_amx.h"
#include "tests/kernels/packed_numbers.h"

namespace idefics::test {
namespace {

constexpr ProductSize kSizes[] = {
    {64, 128, 1}, {70, 33, 2},    {1, 1, 3},      {130, 1000, 5}, {200, 515, 7},
    {64, 260, 8}, {64, 36, 13},   {65, 20, 16},   {192, 640, 40}, {64, 4096, 6},
    {128, 12, 4}, {64, 1028, 17}, {70, 1300, 99},
};
constexpr WeightKind kKinds[] = {WeightKind::kF32, WeightKind::kBf16, WeightKind::kInt8,
                                 WeightKind::kInt4};
constexpr const char* kKindNames[] = {"f32", "bf16", "int8", "int4"};

LinearKernel KernelOf(const LinearKernels& kernels, WeightKind kind) {
  const LinearKernel all[] = {kernels.f32, kernels.bf16, kernels.int8, kernels.int4};
  return all[static_cast<int>(kind)];
}

// Whether the set adds by fused steps, so that the order of k decides every bit.
bool IsExact(std::string_view name, WeightKind kind) {
  return name != "portable" && !(name == "avx512_bf16" && kind == WeightKind::kBf16);
}

// The number of rows that are not as they should be.
int64_t WrongRows(const LinearKernels& kernels, WeightKind kind, const ProductSize& size,
                  std::mt19937& random) {
  PackedProduct product(kind, size, kernels.int8_takes_shorts, random);
  const LinearKernel kernel = KernelOf(kernels, kind);
  const std::vector<float> expected = product.Expected();
  const std::vector<float> magnitudes = product.Magnitudes();
  const std::vector<float> together = product.Run(kernel, 0, size.m);
  // A relative error of 2^-24 a step, and steps cancel out: the root of their number, fourfold.
  const float tolerance = 4 * std::sqrt(static_cast<float>(size.k)) / 16777216.0f;
  int64_t wrong = 0;
  for (int64_t row = 0; row < size.m; ++row) {
    const std::vector<float> alone = product.Run(kernel, row, 1);
    bool right = true;
    for (int64_t i = 0; i < size.n; ++i) {
      const float got = together[row * size.n + i];
      const float want = expected[row * size.n + i];
      right = right && got == alone[i] &&
              (IsExact(kernels.name, kind)
                   ? got == want
                   : std::abs(got - want) <= tolerance * magnitudes[row * size.n + i]);
    }
    wrong += right ? 0 : 1;
  }
  return wrong;
}

// The number of products that are not as they should be.
int CheckSet(const LinearKernels& kernels) {
  int failures = 0;
  for (const WeightKind kind : kKinds) {
    if (KernelOf(kernels, kind) == nullptr) continue;
    const int before = failures;
    std::mt19937 random(20261127);
    for (const ProductSize& size : kSizes) {
      const int64_t wrong = WrongRows(kernels, kind, size, random);
      if (wrong == 0) continue;
      ++failures;
      std::printf("%s, %s, n %d, k %d: %d of %d rows are wrong\n", kernels.name,
                  kKindNames[static_cast<int>(kind)], static_cast<int>(size.n),
                  static_cast<int>(size.k), static_cast<int>(wrong), static_cast<int>(size.m));
    }
    std::printf("%s: %s %s\n", kernels.name, kKindNames[static_cast<int>(kind)],
                failures > before             ? "WRONG"
                : IsExact(kernels.name, kind) ? "to the last bit"
                                              : "within its rounding");
  }
  return failures;
}

int CheckAll() {
  const char* const wanted = std::getenv(kCpuVariable);
  int failures = 0;
  for (const InstructionSet& set : InstructionSets()) {
    if (wanted != nullptr && std::string_view(wanted) != set.name) continue;
    if (set.Usable()) {
      const LinearKernels* const kernels = LinearKernelsFor(set);
      failures += kernels == nullptr ? 1 : CheckSet(*kernels);
    } else {
      std::printf("%s: skipped, this CPU lacks %s\n", set.name, set.Missing().c_str());
      if (wanted != nullptr) ++failures;
    }
  }
  if (wanted == nullptr) failures += CheckSet(EmulatedAmxKernels());
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace idefics::test

int main() { return idefics::test::CheckAll(); }
