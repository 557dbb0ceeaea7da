# SPDX-License-Identifier: Apache-2.0
"""Activation-aware changes to what quantized linears are made of: what their errors cost, and for
int4 scales that move between a linear's input and what makes it (AWQ, arXiv 2306.00978), so that
the model computes the same and large inputs meet finely rounded weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .checkpoint import Checkpoint
from .packing import Int4Form
from .plan import TargetTensor
from .rounding import padded_groups, read_moments
from .weight_files import WeightForm

_POWERS = (0.2, 0.35, 0.5)  # of the root mean square of an input that are tried
_SAMPLE_ROWS = 128  # of W, on which they are tried
# Of the error without a scale: a smaller gain is none. On the demo model, which has no outliers,
# scales that promise less make the answers worse.
_WORTH = 0.85


@dataclass(frozen=True)
class Adjustment:
    """Of one tensor of the plan."""
    columns: Tensor | None = None  # [k]: W is multiplied by them
    rows: Tensor | None = None  # [n]: and by these; a norm's weight [n] is too
    moments: Tensor | None = None  # [G, 128, 128] of the input, as Calibration finds them


def is_adjusted(target: TargetTensor, form: WeightForm) -> bool:
    """What is int4, and what looks at pictures in int8: tokens of a picture are much alike, so the
    errors of a weight add up over them and over a hundred linears behind each other."""
    width = form.width(target) if target.linear else "none"
    return width == "int4" or (width == "int8" and target.name.startswith("vision."))


def adjustments(plan: list[TargetTensor], checkpoint: Checkpoint, form: WeightForm,
                moments: Mapping[str, Tensor]) -> dict[str, Adjustment]:
    """`moments`: as Calibration finds them, also of linears that are not adjusted."""
    targets = {target.name: target for target in plan}
    found: dict[str, Adjustment] = {}
    for name, moment in moments.items():
        target = targets[name]
        if not is_adjusted(target, form):
            continue
        scale = (_worthwhile_scale(target, checkpoint, moment)
                 if form.width(target) == "int4" else None)
        if scale is None:
            found[name] = replace(found.get(name, Adjustment()), moments=moment)
            continue
        source, scale = _divided(targets, checkpoint, form.dtype, name, scale)
        found[source.name] = replace(found.get(source.name, Adjustment()), rows=source.rows)
        found[name] = replace(found.get(name, Adjustment()), columns=scale,
                              moments=_scaled(moment, 1 / scale))
    return found


def _scaled(moments: Tensor, scale: Tensor) -> Tensor:
    """Those of inputs that are multiplied by scale [k]."""
    groups = padded_groups(scale, 1)
    return (moments.float() * groups[:, :, None] * groups[:, None]).to(moments.dtype)


def _worthwhile_scale(target: TargetTensor, checkpoint: Checkpoint,
                      moments: Tensor) -> Tensor | None:
    """[k], or None where no scale makes the error of the outputs much smaller."""
    sample = _sample(target, checkpoint)
    cost = read_moments(moments).cost
    square = moments.diagonal(dim1=1, dim2=2).float().reshape(-1)[:target.shape[1]]

    def error(scale: Tensor) -> float:
        form = Int4Form(read_moments(_scaled(moments, 1 / scale)))
        missed = padded_groups(form.rounded(sample * scale) / scale - sample).transpose(0, 1)
        sizes = padded_groups(square).sum(1)  # what read_moments divided each group's by
        return float(((missed @ cost) * missed).sum((1, 2)) @ sizes)

    root = square.clamp_min(1e-12 * float(square.max()) + 1e-30).sqrt()
    scales = [root.pow(power) for power in _POWERS]
    scales = [scale / scale.log().mean().exp() for scale in scales]
    least, best = min((error(scale), i) for i, scale in enumerate(scales))
    return scales[best] if least < _WORTH * error(torch.ones_like(root)) else None


def _sample(target: TargetTensor, checkpoint: Checkpoint) -> Tensor:
    """The first rows of each part of W [n, k]."""
    each = -(-_SAMPLE_ROWS // len(target.parts)) * target.shape[1]  # values
    found = []
    for part in target.parts:
        left = each
        for chunk in checkpoint.chunks(part.name):
            found.append(chunk[:left].to(torch.float32, copy=True))
            left -= len(found[-1])
            if left == 0:
                break
    return torch.cat(found).view(-1, target.shape[1])


@dataclass(frozen=True)
class _Source:
    name: str
    rows: Tensor


def _divided(targets: Mapping[str, TargetTensor], checkpoint: Checkpoint, dtype: torch.dtype,
             name: str, scale: Tensor) -> tuple[_Source, Tensor]:
    """What makes the input of a linear, divided by `scale`, and the scale that this really is: a
    norm is rounded to the bundle's type, and the linear makes up for it."""
    layer, last = name.rsplit(".", 1)
    if last in ("o", "down"):
        source = {
            "o": f"{layer}.qkv", "down": f"{layer}.gate_up"
        }[last] if not (last == "o" and layer.endswith(".cross")) else _image_kv(layer)
        rows = torch.ones(targets[source].shape[0])
        rows[-len(scale):] = 1 / scale  # v of q, k, v; up of gate, up
        return _Source(source, rows), scale
    norm = f"{layer}.post_norm" if last == "gate_up" else f"{layer}.input_norm"
    stored = torch.cat(
        [chunk.float() for part in targets[norm].parts for chunk in checkpoint.chunks(part.name)])
    rounded = (stored * (1 / scale)).to(dtype).float()
    real = torch.where(rounded != 0, stored / rounded, 1.0)
    return _Source(norm, 1 / scale), torch.where(real > 0, real, scale)


def _image_kv(cross: str) -> str:
    """decoder.groups.G.cross: its keys and values."""
    return f"vision.cross.{cross.split('.')[2]}.kv"
