#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/test.sh [-k NAME] [-L LABEL]: set-up, build and every test: style checks, C++ tests (ctest),
# Python tests (pytest), and each fuzz target for a while. The last line is "N passed, N failed" (and
# ", N skipped"); the exit status is 0 when nothing failed.
#   -k NAME   only what is called so: C++ test programs (ctest -R) and Python tests (pytest -k)
#   -L LABEL  only C++ tests with this label (ctest -L), and Python tests of the folder tests/LABEL
# With -k or -L only what is asked for is built and run, without style checks and fuzzing. IDEFICS_PRESET
# names the build (release), IDEFICS_FUZZ_SECONDS how long a fuzz target runs (20).
set -euo pipefail
. "$(dirname "$0")/environment.sh"

name='' label=''
while [ $# -gt 0 ]; do
  case $1 in
    -k) name=${2:?-k needs a name} && shift ;;
    -L) label=${2:?-L needs a label} && shift ;;
    *) die "unknown argument '$1'; usage: scripts/test.sh [-k NAME] [-L LABEL]" ;;
  esac
  shift
done
preset=${IDEFICS_PRESET:-release}
results=$BUILD_DIR/test-results
reports=()
selection=(${name:+-R "$name"} ${label:+-L "$label"})

# The C++ tests that are asked for, one a line.
cpp_tests() {
  ctest --test-dir "$BUILD_DIR" -N "${selection[@]}" | sed -n 's/^ *Test *#[0-9]*: //p'
}

# Whether this build (asan, tsan, clang) leaves out the model, its operators and so the exporter.
without_model() { grep -q '^IDEFICS_TORCH:[A-Z]*=OFF' "$BUILD_DIR/CMakeCache.txt"; }

# The folders with Python tests that are asked for, one a line.
python_folders() {
  local folder folders
  folders=$(find tests -name 'test_*.py' -printf '%h\n' | sort -u)
  [ -z "$label" ] || folders=$(grep -x "tests/$label" <<<"$folders" || true)
  ! without_model || folders=$(grep -vxE 'tests/(model|export)' <<<"$folders" || true)
  for folder in $folders; do
    # Collecting costs seconds a folder. A name that is an expression of pytest's is not looked up.
    if [ -z "$name" ] || [[ $name == *[!A-Za-z0-9_]* ]] ||
      find "$folder" -name 'test_*.py' | grep -qi -- "$name" ||
      grep -qiE "(def|class) +test_?\w*$name|id=.*$name" "$folder"/test_*.py; then
      echo "$folder"
    fi
  done
}

run_style() {
  say "test: style"
  reports+=("$results/style.xml")
  "$ROOT/scripts/check.sh" --junit "${reports[-1]}" || true
}

run_cpp() {
  say "test: C++"
  reports+=("$results/cpp.xml")
  OMP_WAIT_POLICY=PASSIVE ctest --test-dir "$BUILD_DIR" --output-on-failure --no-tests=error \
    --parallel "$(nproc)" --output-junit "${reports[-1]}" --test-output-size-passed 10000000 \
    --test-output-size-failed 10000000 "${selection[@]}" || true
}

# run_pytest REPORT ARGUMENT…; a run that finds no test of the asked name reports nothing.
run_pytest() {
  local report=$results/python-$1.xml status=0
  shift
  "$ORACLE_ENV/bin/python" -m pytest "$@" ${name:+-k "$name"} -p no:cacheprovider \
    --durations=3 --durations-min=5 -rs --junitxml="$report" || status=$?
  [ $status = 5 ] && [ -n "$name" ] || reports+=("$report")
}

# run_python FOLDER…
run_python() {
  local folder
  say "test: Python"
  if [ -e weights/demo/config.json ] && ! without_model; then
    IDEFICS_DEMO_BUNDLE=$("$ROOT/scripts/demo_bundle.sh")
    export IDEFICS_DEMO_BUNDLE
  fi
  export IDEFICS_BUILD_DIR=$BUILD_DIR IDEFICS_OPS_LIBRARY=$OPS_LIBRARY
  export IDEFICS_CLUSTER_ENV=$CLUSTER_ENV IDEFICS_DEPLOY_ENV=$DEPLOY_ENV
  export PATH=$TOOLS_DIR/bin:$PATH
  export IDEFICS_SERVER=$ROOT/scripts/idefics-server IDEFICS_FAKE_SERVER=$ROOT/scripts/fake-server
  export PYTHONPATH=$ROOT/scripts PYTHONDONTWRITEBYTECODE=1
  # One run a folder: each has its own conftest.
  for folder in "$@"; do
    run_pytest "$(tr / - <<<"${folder#tests/}")" "$folder"
    # Cog's contract once more, with a real model behind it, as far as no directives are needed.
    [ "$folder" != tests/conformance ] || [ -z "${IDEFICS_DEMO_BUNDLE:-}" ] ||
      run_pytest conformance-demo tests/conformance --target demo
  done
}

run_fuzz() {
  say "test: fuzz"
  reports+=("$results/fuzz.xml")
  "$ROOT/scripts/fuzz.sh" --junit "${reports[-1]}" || true
}

"$ROOT/scripts/setup.sh" --tests
cd "$ROOT"
if [ -z "$name$label" ]; then
  "$ROOT/scripts/build.sh" "$preset"
else
  "$ROOT/scripts/build.sh" "$preset" build.ninja  # configures, so that the tests have names
fi
mapfile -t programs < <(cpp_tests)
mapfile -t folders < <(python_folders)
[ ${#programs[@]} -gt 0 ] || [ ${#folders[@]} -gt 0 ] ||
  die "no test is called '$name'${label:+ in '$label'}; ctest --test-dir build/$preset -N and" \
    "git grep 'def test_' list them"
if [ -n "$name$label" ]; then
  # Tests of C++ are called as their programs; those of Python run the server and more.
  mapfile -t targets < <(printf '%s\n' "${programs[@]}" |
    grep -Fx -f - <(ninja -C "$BUILD_DIR" -t targets all | cut -d : -f 1) || true)
  if [ ${#folders[@]} -gt 0 ] || [ ${#targets[@]} -lt ${#programs[@]} ]; then targets=(); fi
  "$ROOT/scripts/build.sh" "$preset" "${targets[@]}"
fi
rm -rf "$results"
mkdir -p "$results"

[ -n "$name$label" ] || run_style
[ ${#programs[@]} -eq 0 ] || run_cpp
[ ${#folders[@]} -eq 0 ] || run_python "${folders[@]}"
# Its build is one of its own; once is enough where several presets are tested.
[ -n "$name$label" ] || [ "$preset" != release ] || run_fuzz
say "test: $SECONDS s in all"
exec python3 "$ROOT/scripts/count_tests.py" "${reports[@]}"
