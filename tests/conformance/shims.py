# SPDX-License-Identifier: Apache-2.0
"""docker/python and docker/pip on a PATH as the image has it, with idefics-server beside them."""

import os
import tempfile
from pathlib import Path

SHIMS = Path(__file__).resolve().parents[2] / "docker"


def image_path(server: str) -> str:
    """A PATH whose first folder stands for the image's /usr/local/bin."""
    folder = Path(tempfile.mkdtemp(prefix="image-bin-"))
    for name in ("python", "pip"):
        shim = folder / name
        # The shim of Python calls pip by its place in the image.
        shim.write_text((SHIMS / name).read_text().replace("/usr/local/bin/", f"{folder}/"))
        shim.chmod(0o755)
        (folder / f"{name}3").symlink_to(shim)
    (folder / "idefics-server").write_text(f'#!/bin/sh\nexec {server} "$@"\n')
    (folder / "idefics-server").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"
