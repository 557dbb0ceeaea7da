# SPDX-License-Identifier: Apache-2.0
"""A bundle whose TorchScript does anything but compute is refused before any of it runs. The
modules here are real ones that would write a file."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from conftest import ROOT

SERVER = os.environ.get("IDEFICS_SERVER") or str(ROOT / "scripts/idefics-server")


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale: int = 2

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Opens(nn.Module):
    """from_file makes the file where there is none."""

    def __init__(self, file: str):
        super().__init__()
        self.file = file

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.from_file(self.file, True, 4)


class Saves(Plain):
    def __init__(self, file: str):
        super().__init__()
        self.file = file

    @torch.jit.export
    def unused(self, x: Tensor):
        torch.save(x, self.file)


class Holds(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x


@torch.jit.script
def opens(file: str) -> Tensor:
    return torch.from_file(file, True, 4)


class CallsFunction(nn.Module):
    def __init__(self, file: str):
        super().__init__()
        self.file = file

    def forward(self, x: Tensor) -> Tensor:
        return x + opens(self.file)


class Sets(Plain):
    def __init__(self, file: str):
        super().__init__()
        self.file = file

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.file, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.file = state[0]
        self.training = state[1]
        self.scale = torch.from_file(state[0], True, 4).size(0)


def saved(module: nn.Module) -> bytes:
    out = io.BytesIO()
    torch.jit.save(torch.jit.script(module), out)
    return out.getvalue()


def with_code(script: bytes, old: str, new: str) -> bytes:
    """With another text in its code."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(script)) as archive, zipfile.ZipFile(out, "w") as changed:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith(".py"):
                assert old in content.decode(), content.decode()
                content = content.decode().replace(old, new).encode()
            changed.writestr(name, content)
    return out.getvalue()


def opened(file: Path) -> str:
    return f'torch.from_file("{file}", True, 4)'


CALLED = {
    "a method": (lambda file: saved(Opens(str(file))), "it calls aten::from_file"),
    "a method that nobody calls": (lambda file: saved(Saves(str(file))), "it calls aten::save"),
    "a module inside": (lambda file: saved(Holds(Opens(str(file)))), "it calls aten::from_file"),
    "a function": (lambda file: saved(CallsFunction(str(file))), "it calls aten::from_file"),
}
LOADED = {
    "__setstate__": (lambda file: saved(Sets(str(file))), "it has a __setstate__"),
    "a default value": (lambda file: with_code(saved(Plain()), "x: Tensor)",
                                               f"x: Tensor={opened(file)})"),
                        "a default value of a parameter is computed"),
    "a constant of a class": (lambda file: with_code(
        saved(Plain()), "  training : bool\n",
        f"  training : bool\n  made : Final[Tensor] = {opened(file)}\n"),
                              "a class computes a constant"),
}


def refusal(script: bytes, folder: Path) -> str:
    """Of a copy of the demo bundle with another vision.ts. Who writes that may write its hash."""
    named = os.environ.get("IDEFICS_DEMO_BUNDLE")
    if not named:
        pytest.skip("IDEFICS_DEMO_BUNDLE names no bundle: scripts/test.sh exports one")
    bundle = Path(shutil.copytree(named, folder / "bundle"))
    (bundle / "vision.ts").write_bytes(script)
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["files"]["vision.ts"] = {
        "bytes": len(script), "sha256": hashlib.sha256(script).hexdigest()
    }
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    said = subprocess.run([SERVER, "predict", "--model", str(bundle), "-i", "prompt=x"],
                          capture_output=True, text=True, timeout=300,
                          env={**os.environ, "XDG_CACHE_HOME": str(folder)})
    assert said.returncode == 1 and said.stdout == ""
    lines = [line for line in said.stderr.splitlines() if line.startswith("idefics-server: ")]
    assert len(lines) == 1, said.stderr
    return lines[0]


@pytest.mark.parametrize("where", CALLED)
def test_operators_that_no_export_has_are_refused(where, tmp_path):
    script, expected = CALLED[where]
    file = tmp_path / "written"
    line = refusal(script(file), tmp_path)
    assert "vision.ts: " + expected in line and "Trust no bundle" in line
    assert not file.exists()


@pytest.mark.parametrize("where", LOADED)
def test_what_would_run_while_it_is_loaded_is_refused(where, tmp_path):
    script, expected = LOADED[where]
    file = tmp_path / "written"
    torch.jit.load(io.BytesIO(script(file)))
    assert file.exists(), "torch itself runs it no longer: the check may go"
    file.unlink()
    assert "vision.ts: " + expected in refusal(script(file), tmp_path)
    assert not file.exists()
