// SPDX-License-Identifier: Apache-2.0
// IDEFICS_CLONES: compiles a function for several x86-64 levels. The loader picks the clone that
// the CPU can run. Sanitizers cannot instrument the resolver.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define IDEFICS_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define IDEFICS_CLONES
#endif
