#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compiles the linears' kernels for arm64 and checks each instruction set: on an arm64 machine on its
# CPU, elsewhere with Debian's cross compiler (g++-aarch64-linux-gnu) in an emulator (qemu-user) of three
# kinds of CPU. Needs nothing else and installs nothing. The build goes to build/arm64.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build/arm64
compiler=g++ runs=("")
if [ "$(uname -m)" != aarch64 ]; then
  compiler=aarch64-linux-gnu-g++
  # As Neoverse V1, Neoverse N1 and Cortex-A72 are: all of them, without i8mm, without dot products.
  runs=(max neoverse-n1 cortex-a72)
fi
for tool in cmake "$compiler" ${runs[0]:+qemu-aarch64}; do
  command -v "$tool" >/dev/null || { echo "arm64_test.sh: $tool is missing on this machine" >&2; exit 1; }
done
cmake -S "$root/tests/arm64" -B "$build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_SYSTEM_NAME=Linux \
  -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_C_COMPILER="${compiler/g++/gcc}" \
  ${IDEFICS_TORCH_DIR:+-DIDEFICS_TORCH_DIR="$IDEFICS_TORCH_DIR"} >&2
cmake --build "$build" --parallel "$(nproc)" >&2
for cpu in "${runs[@]}"; do
  [ -z "$cpu" ] || echo "emulated CPU: $cpu"
  ${cpu:+qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu "$cpu"} "$build/kernels/linear_kernels_check"
done
