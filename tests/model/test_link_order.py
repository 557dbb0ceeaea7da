# SPDX-License-Identifier: Apache-2.0
"""libsentencepiece and torch's libc10 both export FLAGS_minloglevel: 32 bytes there, 4 bytes here. The one that is
loaded first serves both; were it libc10, sentencepiece's constructor would write over the mutex behind its 4 bytes and
the first run of the model would wait for ever. The order of DT_NEEDED decides."""

import os
import re
import subprocess

import pytest

from conftest import ROOT, find_tool


@pytest.mark.parametrize("program", ["logits_tool", "idefics-server"])
def test_sentencepiece_is_loaded_before_torch(program):
    path = find_tool() if program == "logits_tool" else \
        ROOT / f"build/{os.environ.get('IDEFICS_PRESET', 'release')}/server/idefics-server"
    if not path.exists():
        pytest.skip(f"{path} is not built")
    table = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    needed = re.findall(r"\(NEEDED\).*\[(lib[a-z0-9_]+)", table)
    torch = [needed.index(name) for name in needed if name.startswith(("libtorch", "libc10", "libidefics_ops"))]
    assert torch, needed
    assert needed.index("libsentencepiece") < min(torch), needed
