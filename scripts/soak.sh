#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/soak.sh [--engine fake|demo] [--minutes N] [--clients N] [--seed N]: a running server under mixed
# good, bad, cut-off, cancelled, streamed and webhooked requests at full speed. Samples its memory,
# descriptors and threads; fails unless all are flat and every accepted request ended exactly once. Writes
# build/soak/ENGINE.csv and ENGINE.svg. Needs scripts/setup.sh --tests.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

engine=fake
for ((i = 1; i < $#; i++)); do
  if [ "${!i}" = --engine ]; then next=$((i + 1)) && engine=${!next}; fi
done
case $engine in
  fake) "$ROOT/scripts/build.sh" "${IDEFICS_PRESET:-release}" idefics-fake-server ;;
  demo)
    "$ROOT/scripts/build.sh" "${IDEFICS_PRESET:-release}" idefics-server
    IDEFICS_DEMO_BUNDLE=$("$ROOT/scripts/demo_bundle.sh")
    export IDEFICS_DEMO_BUNDLE
    ;;
  *) die "unknown engine '$engine'; there are fake and demo" ;;
esac
mkdir -p "$ROOT/build/soak"
export PYTHONPATH=$ROOT/scripts PYTHONDONTWRITEBYTECODE=1
exec "$ORACLE_ENV/bin/python" "$ROOT/scripts/soak/soak.py" --out "$ROOT/build/soak" "$@"
