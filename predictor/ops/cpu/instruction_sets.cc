// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/cpu/instruction_sets.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace idefics {
namespace {

#if defined(__x86_64__)
constexpr CpuFeature kAvx2 = {"AVX2", [] { return __builtin_cpu_supports("avx2") != 0; }};
constexpr CpuFeature kFma = {"FMA", [] { return __builtin_cpu_supports("fma") != 0; }};
constexpr CpuFeature kAvx512 = {"AVX-512 F, BW, VL and DQ", [] {
                                  return __builtin_cpu_supports("avx512f") != 0 &&
                                         __builtin_cpu_supports("avx512bw") != 0 &&
                                         __builtin_cpu_supports("avx512vl") != 0 &&
                                         __builtin_cpu_supports("avx512dq") != 0;
                                }};
constexpr CpuFeature kAvx512Vnni = {"AVX-512 VNNI",
                                    [] { return __builtin_cpu_supports("avx512vnni") != 0; }};
constexpr CpuFeature kAvx512Bf16 = {"AVX-512 BF16",
                                    [] { return __builtin_cpu_supports("avx512bf16") != 0; }};
// Not every compiler knows its name. Leaf 7, subleaf 1: EAX, bit 4.
constexpr CpuFeature kAvxVnni = {"AVX-VNNI", [] {
                                   unsigned a = 0, b = 0, c = 0, d = 0;
                                   return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 &&
                                          (a & (1u << 4)) != 0;
                                 }};

// Leaf 7, EDX, bits 24 and 25. The kernel gives a process room for the tiles when it is asked.
constexpr CpuFeature kAmxInt8 = {
    "AMX of tiles and bytes", [] {
      unsigned a = 0, b = 0, c = 0, d = 0;
      constexpr unsigned kBits = 3u << 24;
      constexpr int kRequestPermission = 0x1023, kTileData = 18;
      return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kBits) == kBits &&
             syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
    }};

constexpr CpuFeature kAmxNeeds[] = {kFma, kAvx512, kAvx512Vnni, kAvx512Bf16, kAmxInt8};
constexpr CpuFeature kAvx512Bf16Needs[] = {kFma, kAvx512, kAvx512Vnni, kAvx512Bf16};
constexpr CpuFeature kAvx512VnniNeeds[] = {kFma, kAvx512, kAvx512Vnni};
constexpr CpuFeature kAvx512Needs[] = {kFma, kAvx512};
constexpr CpuFeature kAvxVnniNeeds[] = {kAvx2, kFma, kAvxVnni};
constexpr CpuFeature kAvx2Needs[] = {kAvx2, kFma};
#elif defined(__aarch64__)
constexpr CpuFeature kDotprod = {"the dot products of ARMv8.2",
                                 [] { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }};
constexpr CpuFeature kI8mm = {"the matrix products of ARMv8.6 (i8mm)",
                              [] { return (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0; }};

constexpr CpuFeature kNeonI8mmNeeds[] = {kDotprod, kI8mm};
constexpr CpuFeature kNeonDotprodNeeds[] = {kDotprod};
#endif

constexpr InstructionSet kSets[] = {
#if defined(__x86_64__)
    {"amx", kAmxNeeds, "tiles of 16 rows; compiled and emulated, never run: only by name", true},
    {"avx512_bf16", kAvx512Bf16Needs, "512 bits; four products of bytes or two of bf16 at once"},
    {"avx512_vnni", kAvx512VnniNeeds, "512 bits; four products of bytes at once"},
    {"avx512", kAvx512Needs, "512 bits; two products of bytes at once"},
    {"avx_vnni", kAvxVnniNeeds, "256 bits; four products of bytes at once"},
    {"avx2", kAvx2Needs, "256 bits; two products of bytes at once"},
#elif defined(__aarch64__)
    {"neon_i8mm", kNeonI8mmNeeds, "128 bits; four products of bytes at once, of two rows eight"},
    {"neon_dotprod", kNeonDotprodNeeds, "128 bits; four products of bytes at once"},
#endif
    {"portable", {}, "what the compiler makes of plain loops"},
};

std::string Join(const std::vector<std::string>& names) {
  std::string joined;
  for (size_t i = 0; i < names.size(); ++i) {
    joined += (i == 0 ? "" : i + 1 < names.size() ? ", " : " and ") + names[i];
  }
  return joined;
}

const InstructionSet& BestSet() {
  return *std::ranges::find_if(
      kSets, [](const InstructionSet& set) { return !set.on_request && set.Usable(); });
}

}  // namespace

bool InstructionSet::Usable() const {
  return std::ranges::all_of(needs, [](const CpuFeature& feature) { return feature.present(); });
}

std::string InstructionSet::Missing() const {
  std::vector<std::string> missing;
  for (const CpuFeature& feature : needs) {
    if (!feature.present()) missing.emplace_back(feature.name);
  }
  return Join(missing);
}

std::span<const InstructionSet> InstructionSets() { return kSets; }

InstructionSetChoice ChooseInstructionSet(const std::string& wanted) {
  const InstructionSet& best = BestSet();
  if (wanted.empty()) return {&best, "the best that this CPU has"};
  const auto* const set =
      std::ranges::find_if(kSets, [&](const InstructionSet& one) { return one.name == wanted; });
  if (set == std::end(kSets)) {
    std::vector<std::string> names;
    for (const InstructionSet& one : kSets) names.emplace_back(one.name);
    return {nullptr, std::string(kCpuVariable) + "=" + wanted +
                         " is no instruction set of this program: it has " + Join(names)};
  }
  if (!set->Usable()) {
    return {nullptr, std::string(kCpuVariable) + "=" + wanted + " needs " + set->Missing() +
                         ", which this CPU does not have: leave it out"};
  }
  return {set, std::string("as ") + kCpuVariable + " asks; the best is " + best.name};
}

InstructionSetChoice ChooseInstructionSet() {
  const char* const wanted = std::getenv(kCpuVariable);
  return ChooseInstructionSet(wanted == nullptr ? "" : wanted);
}

const char* CloneLevel() {
#if defined(__x86_64__)
  if (kAvx512.present()) return "x86-64-v4";
  if (kAvx2.present() && kFma.present()) return "x86-64-v3";
#endif
  return "default";
}

}  // namespace idefics
