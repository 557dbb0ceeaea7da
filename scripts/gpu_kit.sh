#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/gpu_kit.sh [OUT.tar.xz] [--preset cuda-kit|release] [--build-only]: packs what a bare GPU host needs to try and measure
# everything (scripts/gpu_kit/README.md): the program and the device's tests, built here, the system libraries they want, and
# scripts. There:
#   tar -xf idefics-gpu-kit.tar.xz && idefics-gpu-kit/run
# which needs x86-64, a glibc of 2.36 or later, and a Python with torch 2.11, safetensors, sentencepiece and Pillow. With --preset
# release the kit has no CUDA and can only run with --device cpu. --build-only compiles and links all of it and packs nothing.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

out=idefics-gpu-kit.tar.xz preset=cuda-kit packs=yes
while [ $# -gt 0 ]; do
  case $1 in
    --preset) preset=${2:?--preset needs a name} && shift ;;
    --build-only) packs=no ;;
    -*) die "unknown argument '$1'; usage: scripts/gpu_kit.sh [OUT.tar.xz] [--preset cuda-kit|release] [--build-only]" ;;
    *) out=$1 ;;
  esac
  shift
done
MOST_BYTES=$((60 << 20))
build=$ROOT/build/$preset
torch=$(echo "$PYTHON_ENV"/lib/python3*/site-packages/torch)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
kit=$stage/idefics-gpu-kit

# Those of a program's libraries that come neither from libtorch, its CUDA wheels nor the C library.
own_libraries() {
  LD_LIBRARY_PATH=$torch/lib ldd "$@" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | sort -u |
    grep -vE "^$torch/|/nvidia/|/lib(c|m|dl|rt|pthread|resolv|gcc_s|stdc\+\+|cuda|idefics_[a-z_]*)\.so"
}

build_programs() {
  "$ROOT/scripts/setup.sh"
  "$ROOT/scripts/build.sh" "$preset"
  [ "$preset" != release ] || return 0
  CUDACXX=$(cuda_toolkit)/bin/nvcc
  export CUDACXX CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache}
  cmake -S "$ROOT/tests/gpu" -B "$build-test" -G Ninja -DCMAKE_BUILD_TYPE=Release -DIDEFICS_CUDA=ON \
    -DIDEFICS_TORCH_DIR="$torch" "-DCMAKE_CUDA_ARCHITECTURES=80-real;90-real" >/dev/null
  ninja -C "$build-test" ${IDEFICS_JOBS:+"-j$IDEFICS_JOBS"} gpu_test >&2
}

pack_programs() {
  cmake --install "$build" --prefix "$kit/local" --strip >/dev/null
  mkdir -p "$kit/build/release/server" "$kit/build/release/scripts/bench" "$kit/lib"
  ln -s ../../../local/bin/idefics-server "$kit/build/release/server/idefics-server"
  install -s "$build/scripts/bench/read_bandwidth" "$kit/build/release/scripts/bench/"
  if [ "$preset" != release ]; then
    install -s "$build-test/gpu_test" "$kit/local/bin/"
    find "$build-test" -name 'libidefics_*.so' -exec install -s -D -t "$kit/local/test-lib" {} +
  fi
  mapfile -t ours < <(find "$kit/local/bin" "$kit/local" -type f \( -perm -u+x -o -name '*.so' \))
  own_libraries "${ours[@]}" | xargs cp -t "$kit/lib"
}

pack_scripts() {
  cd "$ROOT"
  mkdir -p "$kit/tests/assets"
  cp --parents -r scripts weights/demo tests/assets/several.jpg VERSION "$kit"
  find "$kit" -name __pycache__ -prune -exec rm -r {} +
  git rev-parse HEAD >"$kit/COMMIT"
  printf '#!/bin/sh\nexec "${PYTHON:-python3}" "$(dirname "$0")/scripts/gpu_kit/run.py" "$@"\n' >"$kit/run"
  chmod +x "$kit/run"
}

build_programs
[ $packs = yes ] || exit 0
pack_programs
pack_scripts
cd "$OLDPWD"
tar -C "$stage" -c idefics-gpu-kit | xz -T0 -2 >"$out"
bytes=$(stat -c %s "$out")
[ "$bytes" -le $MOST_BYTES ] || die "$out has $bytes bytes, more than $MOST_BYTES"
say "$out: $((bytes >> 20)) MiB; on the GPU host: tar -xf $(basename "$out") && idefics-gpu-kit/run"
