#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the CUDA operators and decode graphs, compares them with the reference on this machine's GPU and
# prints timings (docs/performance.md#a-new-device). Needs only CMake, nvcc and a Python with torch
# (PYTHON, default python3); installs nothing. The build goes to build/gpu, the output also to
# build/gpu/gpu_test.log. Options go to the test: --quick leaves the timings out.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build/gpu
[ -n "$(command -v nvcc)" ] || PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
for tool in cmake nvcc; do
  command -v "$tool" >/dev/null || { echo "gpu_test.sh: $tool is missing on this machine" >&2; exit 1; }
done
torch=${IDEFICS_TORCH_DIR:-$("${PYTHON:-python3}" -c \
  'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')}
# Only for the chip at hand; without one every kind is compiled, and the test says so and ends.
arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .) || true
generator=$(command -v ninja >/dev/null && echo Ninja || echo "Unix Makefiles")
cmake -S "$root/tests/gpu" -B "$build" -G "$generator" -DCMAKE_BUILD_TYPE=Release -DIDEFICS_CUDA=ON \
  -DIDEFICS_TORCH_DIR="$torch" ${arch:+-DCMAKE_CUDA_ARCHITECTURES="$arch-real"} >&2
cmake --build "$build" --target gpu_test --parallel "$(nproc)" >&2
{
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem --format=csv 2>/dev/null || true
  "$build/gpu_test" "$@"
} | tee "$build/gpu_test.log"
