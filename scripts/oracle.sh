#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/oracle.sh [--write]: asks transformers 4.57 again for everything that tests/goldens holds of
# models and compares; then puts the cases of tests/conformance that must equal Cog's own server to that
# server. --write makes the goldens anew instead.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
case "${1:-}" in
  "" | --write) ;;
  *) die "unknown argument '$1': use --write or none" ;;
esac
if [ -z "${IDEFICS_OPS_LIBRARY:-}" ]; then
  "$ROOT/scripts/setup.sh" --tests
  "$ROOT/scripts/build.sh" "${IDEFICS_PRESET:-release}"
  export IDEFICS_OPS_LIBRARY=$OPS_LIBRARY
fi
python=${IDEFICS_ORACLE_PYTHON:-$ORACLE_ENV/bin/python}
cd "$ROOT"
if [ "${1:-}" = --write ]; then
  exec "$python" scripts/goldens/make_model_goldens.py
fi
export PYTHONDONTWRITEBYTECODE=1
IDEFICS_ORACLE=full PYTHONPATH=$ROOT/scripts \
  "$python" -m pytest tests/model tests/text -p no:cacheprovider -rA -k "live or oracle or parity or spec"
exec "$python" -m pytest tests/conformance --target coglet -p no:cacheprovider -r fsxX
