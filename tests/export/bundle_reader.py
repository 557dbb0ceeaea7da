# SPDX-License-Identifier: Apache-2.0
"""Reads a bundle with the safetensors library, which shares no code with the exporter."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any, Dict

import torch


def manifest(bundle: Path) -> Dict[str, Any]:
    return json.loads((bundle / "bundle.json").read_text())


def tensors(bundle: Path) -> Dict[str, torch.Tensor]:
    from safetensors.torch import load_file
    found: Dict[str, torch.Tensor] = {}
    for path in sorted(bundle.glob("*.safetensors")):
        found.update(load_file(path))
    return found


def check_files(bundle: Path) -> None:
    """Sizes and hashes are those of the manifest, and nothing else lies in the folder."""
    listed = manifest(bundle)["files"]
    assert sorted(path.name for path in bundle.iterdir()) == sorted([*listed, "bundle.json"])
    for name, entry in listed.items():
        data = (bundle / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def modules(bundle: Path):
    """(vision, decoder) with their weights in."""
    loaded = []
    found = tensors(bundle)
    for prefix in ("vision", "decoder"):
        module = torch.jit.load(str(bundle / f"{prefix}.ts"))
        for name, _ in list(module.named_parameters()):
            path, _, last = name.rpartition(".")
            owner = functools.reduce(getattr, filter(None, path.split(".")), module)
            setattr(owner, last, torch.nn.Parameter(found[f"{prefix}.{name}"], requires_grad=False))
        loaded.append(module)
    return loaded
