#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/fuzz.sh                     lists the libFuzzer targets (tests/fuzz/CMakeLists.txt)
# scripts/fuzz.sh TARGET [SECONDS]    builds and runs one; "all": each in turn. 60 s unless given; 0 runs
#                                     only the inputs that are there.
# scripts/fuzz.sh --keep TARGET       shrinks what earlier runs found to the inputs that add coverage,
#                                     and puts some small ones into tests/fuzz/corpus/TARGET
# scripts/fuzz.sh --junit FILE        every target for IDEFICS_FUZZ_SECONDS (20), as many at a time as there are
#                                     cores; the outcome for scripts/test.sh
# Inputs that a run finds stay in build/fuzz/corpus; one that fails is named and kept in
# build/fuzz/failures. Under AddressSanitizer and UBSan; needs clang and its libclang-rt package.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

programs=$ROOT/build/fuzz/tests/fuzz
# An input may take so long and ask for so much at once.
readonly MOST_SECONDS=20 MOST_MEBIBYTES=256 MOST_RESIDENT_MEBIBYTES=2048
readonly TIMEOUT_STATUS=70  # libFuzzer's
export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1
readonly KEEP_FILES=50 KEEP_FILE_BYTES=2048 KEEP_TARGET_BYTES=20000

# option TARGET NAME: what tests/fuzz/CMakeLists.txt says of a target.
option() { sed -n "s/^$2=//p" "$programs/$1.options"; }

targets() { basename -s .options "$programs"/*.options; }

build() {
  "$ROOT/scripts/build.sh" fuzz "$@" >&2 || die "building failed: install clang and libclang-rt-dev"
}

# corpora TARGET: the folders of its inputs, the one that grows first.
corpora() {
  local grown=$ROOT/build/fuzz/corpus/$1 seeds=$ROOT/build/fuzz/seeds/$1 file
  mkdir -p "$grown" "$seeds"
  (cd "$ROOT" && for file in $(option "$1" seeds); do cp -u "$file" "$seeds/"; done)
  printf '%s\n' "$grown" "$seeds"
  [ ! -d "$ROOT/tests/fuzz/corpus/$1" ] || printf '%s\n' "$ROOT/tests/fuzz/corpus/$1"
}

# all_cost_little TARGET FAILURES: libFuzzer's clock goes on while other work has the processor; what
# counts is what an input takes of it. Inputs that take little are removed.
all_cost_little() {
  local input
  for input in "$2"timeout-*; do
    (ulimit -t "$MOST_SECONDS" && exec "$programs/$1" -timeout=86400 "$input") || return 1
    rm "$input"
  done
  say "fuzz: $1: the machine was slow, not the input"
}

run() {
  local target=$1 seconds=$2 dictionary arguments inputs folders status=0
  local failures=$ROOT/build/fuzz/failures/$target/
  mkdir -p "$failures"
  inputs=$(corpora "$target")
  mapfile -t folders <<<"$inputs"
  arguments=(-timeout="$MOST_SECONDS" -malloc_limit_mb="$MOST_MEBIBYTES"
    -rss_limit_mb="$MOST_RESIDENT_MEBIBYTES" -max_len="$(option "$target" max_bytes)"
    -artifact_prefix="$failures" -print_final_stats=1 -verbosity=0)
  dictionary=$(option "$target" dictionary)
  [ -z "$dictionary" ] || arguments+=(-dict="$ROOT/tests/fuzz/dictionaries/$dictionary.dict")
  if [ "$seconds" = 0 ]; then arguments+=(-runs=0); else arguments+=(-max_total_time="$seconds"); fi
  say "fuzz: $target, $seconds s"
  "$programs/$target" "${arguments[@]}" "${folders[@]}" || status=$?
  if [ $status = $TIMEOUT_STATUS ] && all_cost_little "$target" "$failures"; then return; fi
  [ $status = 0 ] ||
    die "$target failed; the input is in $failures (run $programs/$target INPUT to see it again)"
}

keep() {
  local target=$1 inputs folders merged kept=$ROOT/tests/fuzz/corpus/$1 file size count=0 total=0
  inputs=$(corpora "$target")
  mapfile -t folders <<<"$inputs"
  merged=$(mktemp -d)
  # Into a copy of the seeds, so that only what they do not reach is added.
  cp -r "$ROOT/build/fuzz/seeds/$target/." "$merged/"
  "$programs/$target" -set_cover_merge=1 -verbosity=0 -timeout="$MOST_SECONDS" "$merged" "${folders[@]}"
  rm -rf "$kept" && mkdir -p "$kept"
  while read -r size file; do
    [ ! -e "$ROOT/build/fuzz/seeds/$target/$(basename "$file")" ] || continue
    [ $((total + size)) -le "$KEEP_TARGET_BYTES" ] || continue
    [ $((count += 1)) -le "$KEEP_FILES" ] || break
    total=$((total + size))
    cp "$file" "$kept/"
  done < <(find "$merged" -type f -size "-$KEEP_FILE_BYTES"c -printf '%s %p\n' | sort -k 2)
  say "fuzz: $(find "$kept" -type f | wc -l) inputs, $total bytes in $kept"
  rm -rf "$merged"
}

# Why nothing can be run here, or nothing.
why_not() {
  local program='extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }'
  command -v clang++ >/dev/null || { echo "clang is not installed" && return; }
  clang++ -fsanitize=fuzzer,address -x c++ - -o /dev/null <<<"$program" 2>/dev/null ||
    echo "clang's run-time library, libclang-rt-dev, is not installed"
}

# run_logged TARGET SECONDS: says how it ended, with what it wrote where it failed.
run_logged() {
  local log=$ROOT/build/fuzz/log/$1 body='' count
  if (run "$1" "$2") >"$log" 2>&1; then
    count=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    say "fuzz $1: ok, ${count:-0} executions"
  else
    body='<failure/>'
    say "fuzz $1: FAILED
$(tail -n 60 "$log")"
  fi
  echo "<testcase name=\"$1\">$body</testcase>" >"$log.xml"
}

junit() {
  local file=$1 seconds=${IDEFICS_FUZZ_SECONDS:-20} reason target
  reason=$(why_not)
  if [ -n "$reason" ]; then
    say "fuzz: skipped: $reason; scripts/setup.sh --tests installs it"
    echo '<testsuite name="fuzz"><testcase name="fuzz"><skipped/></testcase></testsuite>' >"$file"
    return
  fi
  build fuzzers
  rm -rf "$ROOT/build/fuzz/log"
  mkdir -p "$ROOT/build/fuzz/log"
  for target in $(targets); do
    [ "$(jobs -rp | wc -l)" -lt "$(nproc)" ] || wait -n || true
    (run_logged "$target" "$seconds") &
  done
  wait
  { echo '<testsuite name="fuzz">' && cat "$ROOT"/build/fuzz/log/*.xml && echo '</testsuite>'; } >"$file"
  ! grep -q '<failure/>' "$file"
}

case ${1:-} in
  '')
    [ -e "$programs" ] || build fuzzers
    targets
    ;;
  --junit) junit "${2:?--junit needs a file name}" ;;
  --keep) build "${2:?--keep needs a target}" && keep "$2" ;;
  all)
    build fuzzers
    for target in $(targets); do run "$target" "${2:-60}"; done
    ;;
  *) build "$1" && run "$1" "${2:-60}" ;;
esac
