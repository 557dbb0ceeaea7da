# SPDX-License-Identifier: Apache-2.0
"""libsentencepiece and torch's libc10 both export FLAGS_minloglevel: 32 bytes there, 4 bytes here.
The one that is loaded first serves both; were it libc10, sentencepiece's constructor would write
over the mutex behind its 4 bytes and the first run of the model would wait for ever. So programs
are linked with sentencepiece and load torch later.

A library that brings LAPACK into the program (OpenCV's core does) brings another sgemm_ than
libtorch's, a plain one, and the program's symbols come first."""

import json
import os
import re
import subprocess

import pytest

from conftest import ROOT, find_tool
from test_predict_command import server


def needed_by(path):
    if not path.exists():
        pytest.skip(f"{path} is not built")
    table = subprocess.run(["readelf", "-d", path], capture_output=True, text=True,
                           check=True).stdout
    return re.findall(r"\(NEEDED\).*\[(lib[a-z0-9_]+)", table)


def server_binary():
    named = os.environ.get(
        "IDEFICS_BUILD_DIR") or ROOT / f"build/{os.environ.get('IDEFICS_PRESET', 'release')}"
    return type(ROOT)(named) / "server/idefics-server"


@pytest.mark.parametrize("program", ["logits_tool", "idefics-server"])
def test_programs_have_sentencepiece_from_their_start_and_torch_only_when_they_load_it(program):
    needed = needed_by(find_tool() if program == "logits_tool" else server_binary())
    assert "libsentencepiece" in needed
    assert not [name
                for name in needed if name.startswith(("libtorch", "libc10", "libidefics"))], needed


def test_the_library_that_has_torch_exports_nothing_of_ours_but_its_entry():
    library = server_binary().parents[1] / "predictor/model/libidefics_torch_runner.so"
    assert "libtorch_cpu" in needed_by(library) and "libidefics_ops" in needed_by(library)
    exported = subprocess.run(["nm", "-DC", "--defined-only", library],
                              capture_output=True,
                              text=True,
                              check=True).stdout
    ours = [
        line.split(maxsplit=2)[2] for line in exported.splitlines()
        if re.search("idefics|httplib|nlohmann", line, re.I)
    ]
    assert ours == ["IdeficsMakeTorchRunner"]


def test_torch_multiplies_by_its_own_sgemm(ours, tmp_path):
    request = {"id": "1", "prompt": ["x"], "max_new_tokens": 1}
    (tmp_path / "in.jsonl").write_text(json.dumps(request))
    subprocess.run([server(), "predict", "--model", ours("demo").bundle, "--jsonl",
                    tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl"], check=True,
                   env={**os.environ, "LD_DEBUG": "bindings",
                        "LD_DEBUG_OUTPUT": str(tmp_path / "bindings")})
    text = "".join(path.read_text() for path in tmp_path.glob("bindings.*"))
    found = re.findall(r"binding file \S*/libtorch_cpu\.so \[0\] to (\S+) \[0\]: "
                       r"normal symbol `sgemm_'", text)
    assert found and all(path.endswith("/libtorch_cpu.so") for path in found), found
