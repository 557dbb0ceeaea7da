#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/export.sh CHECKPOINT BUNDLE [--weights f32|bf16|f16|int8|int4] …: turns a Hugging Face IDEFICS
# checkpoint into a bundle that idefics-server loads. CHECKPOINT is a folder, or ORG/NAME[@REVISION] on the hub.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
if [ -z "${IDEFICS_OPS_LIBRARY:-}" ]; then
  "$ROOT/scripts/setup.sh"
  # The server reads the pictures of --calibrate FOLDER.
  targets=(idefics_ops)
  [[ " $* " != *" --calibrate"* ]] || targets+=(idefics-server)
  "$ROOT/scripts/build.sh" "${IDEFICS_PRESET:-release}" "${targets[@]}"
  export IDEFICS_OPS_LIBRARY=$OPS_LIBRARY IDEFICS_SERVER=$SERVER_BINARY
fi
python=$PYTHON_ENV/bin/python
if is_hub_name "${1:-}"; then
  [ -e "$HUB_ENV/.complete" ] || "$ROOT/scripts/setup.sh" --hub
  python=$HUB_ENV/bin/python
fi
# Else each packing thread's allocator keeps some 100 MB of what it freed, and threads that wait for each
# other in a calibration spin, which takes minutes instead of seconds beside other programs.
export MALLOC_ARENA_MAX=1 OMP_WAIT_POLICY=PASSIVE
PYTHONPATH=$ROOT/scripts IDEFICS_PROGRAM_NAME=scripts/export.sh exec "$python" -m export "$@"
