# SPDX-License-Identifier: Apache-2.0
"""Shared by the tests of scripts/export. They need torch and the operators' library, and say so
where it is absent."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
sys.path.insert(0, str(SCRIPTS))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as export.sh does
LIBRARY = Path(
    os.environ.get("IDEFICS_OPS_LIBRARY") or ROOT / "build/release/predictor/ops/libidefics_ops.so")


def _missing() -> str:
    try:
        import torch  # noqa: F401
    except ImportError:
        return f"{sys.executable} has no torch: run scripts/test.sh, which sets one up"
    return "" if LIBRARY.is_file(
    ) else f"{LIBRARY} is not built: build idefics_ops or set IDEFICS_OPS_LIBRARY"


def pytest_configure(config):
    # A bundle is TorchScript.
    config.addinivalue_line("filterwarnings", "ignore:.torch.jit:DeprecationWarning")


def pytest_collection_modifyitems(items):
    reason = _missing()
    if reason:
        print(f"tests/export are skipped: {reason}", file=sys.stderr)
        for item in items:
            item.add_marker(pytest.mark.skip(reason=reason))


def environment():
    return {**os.environ, "PYTHONPATH": str(SCRIPTS), "IDEFICS_OPS_LIBRARY": str(LIBRARY)}


def export_command(checkpoint: Path, bundle: Path, *flags: str):
    return [sys.executable, "-m", "export", str(checkpoint), str(bundle), *flags]


@pytest.fixture
def make(tmp_path):
    """make("--shape", "tiny", …) -> a fresh synthetic checkpoint folder."""
    import make_checkpoint

    def run(*flags: str, name: str = "checkpoint") -> Path:
        folder = tmp_path / name
        make_checkpoint.make_checkpoint(make_checkpoint.parse([str(folder), *flags]))
        return folder
    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    import make_checkpoint
    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    make_checkpoint.make_checkpoint(make_checkpoint.parse([str(folder), "--seed", "7"]))
    return folder


@pytest.fixture
def damaged(tiny, tmp_path):
    """A copy of the tiny checkpoint to damage."""
    return Path(shutil.copytree(tiny, tmp_path / "damaged"))


@pytest.fixture
def export(tmp_path):
    """export(checkpoint, dtype=…) -> the bundle folder; in this process, which has torch loaded
    already."""
    from export.export_bundle import ExportOptions, export_bundle

    def run(checkpoint: Path, name: str = "bundle", **options) -> Path:
        os.environ["IDEFICS_OPS_LIBRARY"] = str(LIBRARY)
        export_bundle(ExportOptions(checkpoint, tmp_path / name, **options))
        return tmp_path / name
    return run


@pytest.fixture
def command():
    """command(checkpoint, bundle, *flags) -> the finished process."""
    def run(checkpoint: Path, bundle: Path, *flags: str, **options):
        return subprocess.run(export_command(checkpoint, bundle, *flags),
                              env=environment(),
                              text=True,
                              capture_output=True,
                              timeout=300,
                              **options)
    return run


def edit_json(path: Path, **changes) -> None:
    """Sets keys of a JSON object; None removes one."""
    values = json.loads(path.read_text())
    for key, value in changes.items():
        values.pop(key, None)
        if value is not None:
            values[key] = value
    path.write_text(json.dumps(values))
