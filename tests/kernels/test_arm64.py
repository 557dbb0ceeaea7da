# SPDX-License-Identifier: Apache-2.0
"""The kernels of ARM's instruction sets, in an emulator."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/arm64_test.sh"
TOOLS = () if platform.machine() == "aarch64" else ("aarch64-linux-gnu-g++", "qemu-aarch64")


def test_each_set_of_arm64_gives_the_sums_that_x86_gives():
    lost = [tool for tool in TOOLS if not shutil.which(tool)]
    if lost:
        pytest.skip(f"{' and '.join(lost)} not here: scripts/setup.sh --tests installs them")
    done = subprocess.run([SCRIPT], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    if TOOLS:
        for name in ("neon_i8mm", "neon_dotprod"):
            for kind in ("int8", "int4"):
                assert f"{name}: {kind} to the last bit" in done.stdout
