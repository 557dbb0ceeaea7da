#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints the folder of the demo model's bundle; exports it first where it is missing. The folder's
# name holds a key of the checkpoint, the exporter and the operators, so a change of any makes a new one.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
[ -e "$ROOT/weights/demo/config.json" ] || die "weights/demo has no checkpoint;" \
  "train it with scripts/train_demo.py, or serve another bundle with --model"
key=$(cd "$ROOT" && find VERSION weights/demo scripts/export predictor/ops/schema.cc -type f \
  -not -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-12)
bundle=$CACHE/bundle-demo-$key
if [ ! -e "$bundle/bundle.json" ]; then
  say "demo: exporting weights/demo to $bundle (a few seconds)"
  "$ROOT/scripts/export.sh" "$ROOT/weights/demo" "$bundle" >&2
fi
echo "$bundle"
