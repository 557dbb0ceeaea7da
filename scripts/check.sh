#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The style checks: format, sizes, includes, what kernels call, references to documents, shell scripts, Python, its types.
# With --lint also clang-tidy over the compiled files, clang's proof of who holds which lock, and nvcc over all of CUDA (slow).
# --fix formats and mends what can be mended first. --junit FILE writes the outcome for test.sh.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
cd "$ROOT"

junit='' lint=no fix=no
while [ $# -gt 0 ]; do
  case $1 in
    --junit) junit=${2:?--junit needs a file name} && shift ;;
    --lint) lint=yes ;;
    --fix) fix=yes ;;
    *) die "unknown argument '$1'; usage: scripts/check.sh [--fix] [--lint] [--junit FILE]" ;;
  esac
  shift
done

# files NAME…: sources by the patterns of `find -name`, one a line; works without git as well.
files() {
  local patterns=() name
  for name in "$@"; do patterns+=(-o -name "$name"); done
  find . \( -path ./build -o -path ./.git \) -prune -o -type f \( "${patterns[@]:1}" \) -print
}

# shell_scripts: files that bash or sh runs, by their first line, and the one that they all source.
shell_scripts() {
  files '*' | xargs -r -d '\n' grep -lE '^#!(/usr/bin/env bash|/bin/sh)$' --max-count=1
  echo ./scripts/environment.sh
}

check_format() {
  local sources
  # Other versions lay some lines out differently; Debian 12's is the one.
  case $(clang-format --version 2>/dev/null) in
    *" 14."*) ;;
    *) echo "skipped: clang-format 14 is not installed" && return 77 ;;
  esac
  mapfile -t sources < <(files '*.cc' '*.h' '*.cu' '*.cuh' '*.js')
  [ "$fix" = no ] || clang-format -i "${sources[@]}"
  clang-format --dry-run -Werror "${sources[@]}" ||
    { echo "not formatted: run scripts/check.sh --fix" && return 1; }
}
check_sizes() { python3 scripts/check_sizes.py; }
check_includes() { python3 scripts/check_includes.py; }
check_cuda() { python3 scripts/check_cuda.py; }
check_links() { python3 scripts/check_links.py; }
check_shell() {
  local scripts script
  mapfile -t scripts < <(shell_scripts)
  for script in "${scripts[@]}"; do
    case $(head -n 1 "$script") in
      '#!/bin/sh') sh -n "$script" ;;
      *) bash -n "$script" ;;
    esac || return 1
  done
  command -v shellcheck >/dev/null || { echo "skipped: shellcheck is not installed" && return 77; }
  shellcheck "${scripts[@]}"
}
check_python() {
  [ -e "$LINT_ENV/.complete" ] ||
    { echo "skipped: ruff is not there, scripts/setup.sh --tests fetches it" && return 77; }
  local arguments=()
  [ "$fix" = no ] || arguments+=(--fix)
  "$LINT_ENV/bin/ruff" check --quiet --output-format concise "${arguments[@]}" .
}
check_types() {
  [ -e "$LINT_ENV/.complete" ] ||
    { echo "skipped: mypy is not there, scripts/setup.sh --tests fetches it" && return 77; }
  "$LINT_ENV/bin/mypy"
}
check_lint() {
  [ -e "$BUILD_DIR/compile_commands.json" ] || { echo "run scripts/build.sh first" && return 1; }
  files '*.cc' | grep -v '^./tests/' | xargs -r -P "$(nproc)" -n 4 clang-tidy --quiet -p "$BUILD_DIR"
}
check_nvcc() {
  [ -n "$(cuda_toolkit)" ] || { echo "skipped: nvcc is not here, scripts/setup.sh --cuda fetches it" && return 77; }
  scripts/gpu_kit.sh --build-only
}
check_locks() {
  command -v clang++ >/dev/null || { echo "skipped: clang is not installed" && return 77; }
  scripts/build.sh clang
}

failed=0 cases=''
checks=(format sizes includes cuda links shell python types)
[ "$lint" = no ] || checks+=(lint locks nvcc)
for name in "${checks[@]}"; do
  status=0
  output=$("check_$name" 2>&1) || status=$?
  case $status in
    0) say "check $name: ok" && body='' ;;
    77) say "check $name: $output" && body='<skipped/>' ;;
    *) say "check $name: FAILED" && say "$output" && body='<failure/>' && failed=1 ;;
  esac
  cases+="<testcase name=\"$name\">$body</testcase>"
done
[ -z "$junit" ] || printf '<testsuite name="style">%s</testsuite>\n' "$cases" >"$junit"
exit $failed
