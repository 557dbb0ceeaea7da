#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The style checks: format, sizes, includes, references to documents, syntax of scripts. With --lint also
# clang-tidy over the compiled files (slow). --fix formats the files first. --junit FILE writes the outcome
# for test.sh.
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

# files NAME…: sources by the patterns of `find -name`; works without git as well.
files() {
  local patterns=() name
  for name in "$@"; do patterns+=(-o -name "$name"); done
  find . \( -path ./build -o -path ./.git \) -prune -o -type f \( "${patterns[@]:1}" \) -print
}

check_format() {
  local file status=0
  # Other versions lay some lines out differently; Debian 12's is the one.
  case $(clang-format --version 2>/dev/null) in
    *" 14."*) ;;
    *) echo "skipped: clang-format 14 is not installed" && return 77 ;;
  esac
  for file in $(files '*.cc' '*.h' '*.cu' '*.cuh'); do
    [ "$fix" = no ] || clang-format -i "$file"
    clang-format "$file" | cmp -s - "$file" ||
      { echo "$file is not formatted: run scripts/check.sh --fix" && status=1; }
  done
  return $status
}
check_sizes() { python3 scripts/check_sizes.py; }
check_includes() { python3 scripts/check_includes.py; }
check_links() { python3 scripts/check_links.py; }
check_scripts() {
  local file
  for file in $(files '*.sh' run idefics-server python pip); do
    case $(head -n 1 "$file") in
      '#!/usr/bin/env bash') bash -n "$file" ;;
      '#!/bin/sh') sh -n "$file" ;;
    esac || return 1
  done
  files '*.py' | xargs -r python3 -c '
import ast, sys
for path in sys.argv[1:]:
    ast.parse(open(path, encoding="utf-8").read(), path)'
}
check_lint() {
  [ -e "$BUILD_DIR/compile_commands.json" ] || { echo "run scripts/build.sh first" && return 1; }
  files '*.cc' | grep -v '^./tests/' | xargs -r -P "$(nproc)" -n 4 clang-tidy --quiet -p "$BUILD_DIR"
}

failed=0 cases=''
checks=(format sizes includes links scripts)
[ "$lint" = no ] || checks+=(lint)
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
