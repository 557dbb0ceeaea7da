# SPDX-License-Identifier: Apache-2.0
"""Reads a bundle with the safetensors library, which shares no code with the exporter."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import torch


def manifest(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "bundle.json").read_text())


def tensors(bundle: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file
    found: dict[str, torch.Tensor] = {}
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


def linear(bundle: Path, name: str) -> torch.Tensor:
    """W [n, k] of a linear of the decoder, or of a layer or cross projection of the vision module,
    value by value as predictor/ops/packed_weight.h describes it."""
    model, found = manifest(bundle)["model"], tensors(bundle)
    h, f = model["hidden_size"], model["intermediate_size"]
    e, vision_f = model["vision"]["embed_dim"], model["vision"]["intermediate_size"]
    sizes = {
        "qkv": (3 * h, h), "gate_up": (2 * f, h), "down": (h, f), "q": (h, h), "o": (h, h),
        "lm_head": (model["vocab_size"] + model["additional_vocab_size"], h)
    } if name.startswith("decoder.") else {
        "qkv": (3 * e, e), "out": (e, e), "fc1": (vision_f, e), "fc2": (e, vision_f),
        "kv": (2 * h, e)
    }
    n, k = sizes[name.rpartition(".")[2]]
    weight, scale = found[f"{name}.weight"], found.get(f"{name}.scale")
    row, i = torch.arange(n)[:, None], torch.arange(k)[None, :]
    tile, column = row // 64, row % 64
    if weight.dtype == torch.float32:
        return weight[tile, i, column]
    if weight.dtype != torch.uint8:
        return weight[tile, i // 2, column, i % 2]
    if scale.dtype == torch.float32:
        return (weight[tile, i // 4, column, i % 4].float() - 128) * scale[tile, column]
    byte = weight[tile, i // 8, column, i % 4].int()
    code = torch.where(i % 8 < 4, byte & 15, byte >> 4)
    step, minimum = (scale[tile, i // 128, which, column].float() for which in (0, 1))
    return step * code + minimum


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
