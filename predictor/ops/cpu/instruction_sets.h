// SPDX-License-Identifier: Apache-2.0
// The instruction sets that the linears' kernels are written for, which of them this CPU has, and
// which one is taken. Apart from the kernels, so that a program without them can say it. Thread
// safe.
#pragma once

#include <span>
#include <string>

namespace idefics {

constexpr const char* kCpuVariable = "IDEFICS_CPU";  // names a set; unset: the best one

struct CpuFeature {
  const char* name;  // as the CPU's maker calls it
  bool (*present)();
};

struct InstructionSet {
  const char* name;  // "avx2"
  std::span<const CpuFeature> needs;
  const char* products;     // how it multiplies, in a few words
  bool on_request = false;  // taken only where kCpuVariable names it

  bool Usable() const;
  std::string Missing() const;  // "AVX-512 VNNI and AVX-512 BF16"; empty where it is usable
};

// Those that this program is compiled for, best first. The last one needs nothing.
std::span<const InstructionSet> InstructionSets();

struct InstructionSetChoice {
  const InstructionSet* set;  // null: there is no such set, or this CPU lacks it
  std::string why;  // "the best that this CPU has"; without a set the sentence for the user
};

// The best one for an empty `wanted`.
InstructionSetChoice ChooseInstructionSet(const std::string& wanted);

// For what kCpuVariable says.
InstructionSetChoice ChooseInstructionSet();

// The level of x86-64 that IDEFICS_CLONES (inlining.h) takes for attention, norms and activations:
// "x86-64-v4", "x86-64-v3"; "default" on other CPUs.
const char* CloneLevel();

}  // namespace idefics
