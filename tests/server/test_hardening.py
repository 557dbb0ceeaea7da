# SPDX-License-Identifier: Apache-2.0
"""What makes errors in memory hard to use is in the binary (cmake/hardening.cmake), and the binary
names no folder that it loads libraries from."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT

BUILD = Path(os.environ.get("IDEFICS_BUILD_DIR")
             or ROOT / f"build/{os.environ.get('IDEFICS_PRESET', 'release')}")
SERVER_BINARY = BUILD / "server/idefics-server"
LIBRARIES = ("predictor/model/libidefics_torch_runner.so", "predictor/ops/libidefics_ops.so")


def readelf(flags, path):
    if not path.exists():
        pytest.skip(f"{path} is not built")
    return subprocess.run(["readelf", "-W", flags, path], capture_output=True, text=True,
                          check=True).stdout


def build_type():
    cache = (BUILD / "CMakeCache.txt").read_text()
    if re.search(r"^IDEFICS_SANITIZE:STRING=.+$", cache, re.M):
        return "sanitizer"
    return re.search(r"^CMAKE_BUILD_TYPE:STRING=(.*)$", cache, re.M)[1]


@pytest.mark.parametrize("path", ["server/idefics-server", *LIBRARIES])
def test_what_is_loaded_is_read_only_where_it_can_be(path):
    segments = readelf("-l", BUILD / path)
    assert re.search(r"GNU_STACK .* RW +0x", segments), "the stack is executable"
    assert "GNU_RELRO" in segments
    dynamic = readelf("-d", BUILD / path)
    assert re.search(r"\(FLAGS\).*BIND_NOW", dynamic) or re.search(r"FLAGS_1.*NOW", dynamic)
    assert not re.search(r"LOAD .* RWE ", segments), "a segment is writable and executable"


def test_the_program_is_at_another_address_each_time():
    assert "DYN (Position-Independent Executable file)" in readelf("-h", SERVER_BINARY)
    assert re.search(r"FLAGS_1.*PIE", readelf("-d", SERVER_BINARY))


def test_functions_that_hold_arrays_guard_them_and_library_calls_know_their_sizes():
    if build_type() not in ("Release", "RelWithDebInfo"):
        pytest.skip("only optimised builds without a sanitizer know sizes")
    undefined = set(re.findall(r" UND (\w+)", readelf("--dyn-syms", SERVER_BINARY)))
    assert "__stack_chk_fail" in undefined
    assert {"__memcpy_chk", "__snprintf_chk"} & undefined, sorted(undefined)


def test_stacks_grow_page_by_page_and_jumps_land_where_they_may():
    if os.uname().machine != "x86_64" or build_type() == "sanitizer":
        pytest.skip("these are instructions of x86-64")
    code = SERVER_BINARY.read_bytes()
    endbr64, probe = b"\xf3\x0f\x1e\xfa", b"\x48\x83\x0c\x24\x00"  # orq $0, (%rsp)
    assert code.count(endbr64) > 1000 and code.count(probe) > 10


def test_the_installed_program_names_no_folder_and_finds_its_runtime(tmp_path):
    if build_type() == "sanitizer" or not (BUILD / LIBRARIES[0]).exists():
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
