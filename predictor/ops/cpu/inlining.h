// SPDX-License-Identifier: Apache-2.0
// What the CPU kernels ask of the compiler: inlining and unrolling that it cannot decline, for
// loops whose sums must stay in registers, and functions compiled for several instruction sets.
// linear_*.cc include this with compiler flags of their own, so nothing of the standard library is
// here.
#pragma once

#define IDEFICS_ALWAYS __attribute__((always_inline))
#define IDEFICS_INLINE inline IDEFICS_ALWAYS

// IDEFICS_CLONES: compiles a function for several x86-64 levels. The loader picks the clone that
// the CPU can run. Sanitizers cannot instrument the resolver.

// IDEFICS_LEVEL("arch=x86-64-v3"): compiles a function for that level, where IDEFICS_LEVELS is 1;
// for functions that differ from level to level. Who calls them asks __builtin_cpu_supports.

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define IDEFICS_LEVELS 1
#define IDEFICS_LEVEL(level) __attribute__((target(level)))
#else
#define IDEFICS_LEVELS 0
#endif

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define IDEFICS_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define IDEFICS_CLONES
#endif

namespace idefics {

template <int kValue>
struct Index {
  constexpr operator int() const { return kValue; }
};

// body(Index<0>()), …, body(Index<N - 1>()), written out: GCC keeps an array in registers only when
// all its indices are constants early.
template <int N, typename Body>
IDEFICS_INLINE void Unrolled(const Body& body) {
  if constexpr (N > 0) {
    Unrolled<N - 1>(body);
    body(Index<N - 1>());
  }
}

}  // namespace idefics
