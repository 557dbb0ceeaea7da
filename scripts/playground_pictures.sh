#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The pictures of docs/playground.md and of the README, taken while the page's tests run; small.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
cd "$ROOT"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
IDEFICS_SCREENSHOTS=$scratch scripts/test.sh -L playground
mkdir -p docs/playground
"$ORACLE_ENV/bin/python" - "$scratch" docs/playground <<'PYTHON'
import pathlib
import re
import sys

from PIL import Image

taken, pages = (pathlib.Path(folder) for folder in sys.argv[1:])
shown = re.findall(r"\(playground/([\w-]+)\.png\)", pages.with_suffix(".md").read_text())
for name in shown:
    image = Image.open(taken / f"{name}.png").convert("RGB")
    width = 240 if image.width < image.height else 560
    image.thumbnail((width, 4 * width), Image.Resampling.LANCZOS)
    image.quantize(256).save(pages / f"{name}.png", optimize=True)
readme = Image.open(taken / "readme.png").convert("RGB")
readme.quantize(256).save(pages / "readme.png", optimize=True)
PYTHON
ls -l docs/playground
