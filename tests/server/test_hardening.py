# SPDX-License-Identifier: Apache-2.0
"""The installed program names no folder that it loads libraries from, and finds them."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT

BUILD = Path(os.environ.get("IDEFICS_BUILD_DIR")
             or ROOT / f"build/{os.environ.get('IDEFICS_PRESET', 'release')}")
RUNNER = "predictor/model/libidefics_torch_runner.so"


def readelf(flags, path):
    if not path.exists():
        pytest.skip(f"{path} is not built")
    return subprocess.run(["readelf", "-W", flags, path], capture_output=True, text=True,
                          check=True).stdout


def test_the_installed_program_names_no_folder_and_finds_its_runtime(tmp_path):
    if not (BUILD / RUNNER).exists():
        pytest.skip("needs a build with the model runtime")
    subprocess.run(["cmake", "--install", BUILD, "--prefix", tmp_path], check=True,
                   capture_output=True)
    program = tmp_path / "bin/idefics-server"
    assert not re.search("RPATH|RUNPATH", readelf("-d", program))
    bundle = os.environ.get("IDEFICS_DEMO_BUNDLE")
    if not bundle:
        pytest.skip("IDEFICS_DEMO_BUNDLE names no bundle: scripts/test.sh exports one")
    said = subprocess.run([program, "predict", "--model", bundle, "--log-level", "debug", "-i",
                           "prompt=User: Hello", "-i", "max_new_tokens=1"],
                          capture_output=True, text=True, timeout=300,
                          env={**os.environ, "LD_DEBUG": "files"})
    assert said.returncode == 0, said.stderr[-2000:]
    loaded = re.findall(r"calling init: (\S*libidefics_torch_runner.so)", said.stderr)
    assert [Path(path).resolve().parent.name for path in loaded] == ["cog-idefics"]
    assert Path(loaded[0]).resolve().is_relative_to(tmp_path.resolve())
