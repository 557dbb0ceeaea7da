# SPDX-License-Identifier: Apache-2.0
"""The weightless TorchScript files of a bundle."""

import io
import os
from pathlib import Path

import torch

from .errors import ExportError
from .linears import Widths
from .modules import ModelShape, script_modules

DEFAULT_LIBRARY = Path(
    __file__).resolve().parents[2] / "build/release/predictor/ops/libidefics_ops.so"


def load_operators() -> None:
    path = Path(os.environ.get("IDEFICS_OPS_LIBRARY") or DEFAULT_LIBRARY)
    if not path.is_file():
        raise ExportError(
            f"the model's operators are not at {path}: run scripts/export.sh, which builds them, "
            f"or set "
            "IDEFICS_OPS_LIBRARY")
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        raise ExportError(f"{path} cannot be loaded ({error}): build it again with this torch, "
                          f"{torch.__version__}") from None


def script_files(shape: ModelShape, vision: Widths, decoder: Widths,
                 tensors: list[str]) -> dict[str, bytes]:
    """{"vision.ts": …, "decoder.ts": …} with a place for each of `tensors`. REQUIRES:
    load_operators()."""
    files: dict[str, bytes] = {}
    names = set()
    for prefix, module in zip(("vision", "decoder"),
                              script_modules(shape, vision, decoder),
                              strict=True):
        names |= {f"{prefix}.{name}" for name, _ in module.named_parameters()}
        buffer = io.BytesIO()
        torch.jit.save(module, buffer)
        files[f"{prefix}.ts"] = buffer.getvalue()
    assert names == set(
        tensors), f"plan.py and modules.py disagree about {sorted(names ^ set(tensors))[:5]}"
    return files
