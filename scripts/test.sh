#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Set-up, build and every test: style checks, C++ tests (ctest), Python tests (pytest). The last line
# is "N passed, N failed" (and ", N skipped"); the exit status is 0 when nothing failed.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

"$ROOT/scripts/setup.sh" --tests
"$ROOT/scripts/build.sh" "${IDEFICS_PRESET:-release}"
results=$BUILD_DIR/test-results
rm -rf "$results"
mkdir -p "$results"
cd "$ROOT"

say "test: style"
"$ROOT/scripts/check.sh" --junit "$results/style.xml" || true

say "test: C++"
OMP_WAIT_POLICY=PASSIVE ctest --test-dir "$BUILD_DIR" --output-on-failure --no-tests=error \
  --parallel "$(nproc)" --output-junit "$results/cpp.xml" --test-output-size-passed 10000000 \
  --test-output-size-failed 10000000 || true

say "test: Python"
if [ -e weights/demo/config.json ]; then
  IDEFICS_DEMO_BUNDLE=$("$ROOT/scripts/demo_bundle.sh")
  export IDEFICS_DEMO_BUNDLE
fi
export IDEFICS_BUILD_DIR=$BUILD_DIR IDEFICS_OPS_LIBRARY=$OPS_LIBRARY
export IDEFICS_SERVER=$ROOT/scripts/idefics-server
export PYTHONPATH=$ROOT/scripts PYTHONDONTWRITEBYTECODE=1
reports=("$results/style.xml" "$results/cpp.xml")
# One run a folder: each has its own conftest.
for folder in $(find tests -name 'test_*.py' -printf '%h\n' | sort -u); do
  reports+=("$results/python-$(tr / - <<<"${folder#tests/}").xml")
  "$ORACLE_ENV/bin/python" -m pytest "$folder" -p no:cacheprovider --durations=3 --durations-min=5 \
    --junitxml="${reports[-1]}" || true
done
# Cog's contract once more, with a real model behind it, as far as no directives are needed.
if [ -n "${IDEFICS_DEMO_BUNDLE:-}" ]; then
  reports+=("$results/python-conformance-demo.xml")
  "$ORACLE_ENV/bin/python" -m pytest tests/conformance --target demo -p no:cacheprovider \
    --junitxml="${reports[-1]}" || true
fi

say "test: $SECONDS s in all"
exec python3 "$ROOT/scripts/count_tests.py" "${reports[@]}"
