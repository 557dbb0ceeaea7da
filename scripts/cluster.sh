#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/cluster.sh shard|ray SOURCE TARGET [OPTION…] [-- FLAG…]: answers every row of many files (docs/batch.md).
# IDEFICS_SERVER names the program where it is not this checkout's.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
[ -e "$CLUSTER_ENV/.complete" ] || "$ROOT/scripts/setup.sh" --cluster
PYTHONPATH=$ROOT/scripts${PYTHONPATH:+:$PYTHONPATH} IDEFICS_PROGRAM_NAME=scripts/cluster.sh \
  exec "$CLUSTER_ENV/bin/python" -m cluster "$@"
