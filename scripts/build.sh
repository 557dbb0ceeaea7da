#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/build.sh [PRESET] [TARGET…]: configures where needed and compiles into build/PRESET
# (release unless named; `scripts/build.sh --list` lists them). Without a target it builds everything,
# the C++ tests too where their library is installed.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

presets() { (cd "$ROOT" && cmake --list-presets) | sed -n 's/^ *"\([^"]*\)" *-* */\1\t/p'; }

preset=${1:-${IDEFICS_PRESET:-release}}
[ $# -eq 0 ] || shift
if [ "$preset" = --list ]; then
  presets | while IFS=$'\t' read -r name what; do printf '%-9s %s\n' "$name" "$what"; done
  exit
fi
presets | cut -f 1 | grep -Fxq -- "$preset" ||
  die "there is no preset '$preset'; CMakePresets.json has" "$(presets | cut -f 1 | xargs)"
folder=$ROOT/build/$preset

export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache} CCACHE_BASEDIR=${CCACHE_BASEDIR-$ROOT}
if [[ $preset = cuda* ]]; then
  toolkit=$(cuda_toolkit)
  [ -n "$toolkit" ] || die "no CUDA toolkit is here; run scripts/setup.sh --cuda"
  export CUDACXX=$toolkit/bin/nvcc
fi

tests=OFF
[ ! -e "$CATCH2_DIR/include" ] || tests=ON
arguments=(--preset "$preset" "-DIDEFICS_CACHE=$CACHE" "-DIDEFICS_TESTS=$tests"
  "-DIDEFICS_TORCH_DIR=$(echo "$PYTHON_ENV"/lib/python3*/site-packages/torch)")
stamp=$folder/.configured-by-build.sh
if [ ! -e "$folder/build.ninja" ] || [ "$(cat "$stamp" 2>/dev/null)" != "${arguments[*]}" ]; then
  say "build: configuring build/$preset"
  cd "$ROOT"
  mkdir -p "$CACHE/log"
  cmake "${arguments[@]}" >"$CACHE/log/configure-$preset.log" 2>&1 || {
    tail -n 20 "$CACHE/log/configure-$preset.log" >&2
    die "configuring failed; the whole output is in $CACHE/log/configure-$preset.log"
  }
  printf '%s\n' "${arguments[*]}" >"$stamp"
fi
if ninja -C "$folder" -n "$@" | grep -q 'no work to do'; then exit 0; fi
started=$SECONDS
say "build: compiling build/$preset (a first build takes some minutes; later ones use ccache)"
NINJA_STATUS='[%f/%t %es] ' ninja -C "$folder" ${IDEFICS_JOBS:+"-j$IDEFICS_JOBS"} "$@"
say "build: done in $((SECONDS - started)) s"
