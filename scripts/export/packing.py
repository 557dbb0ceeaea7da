# SPDX-License-Identifier: Apache-2.0
"""The stored forms of the linears: columns in tiles of 64, plain, int8 or int4.

Types and shapes are those of weights/linear_layout.h (a test compares them), what the numbers mean
is in predictor/ops/packed_weight.h. Four bytes of neighbouring values of one column are a lane, and
a weight is [tiles, lanes, 64] lanes. All functions take whole rows of W [n, k], in blocks of a
multiple of 64 rows; only the last block may be shorter.
"""


import torch
import torch.nn.functional as F
from torch import Tensor

from .int4_codes import int4_codes
from .rounding import GROUP, Moments, padded_groups, passed_on

TILE = 64
_TINY = 1e-30  # a smaller range counts as zero: its reciprocal would not be finite

StoredShape = tuple[torch.dtype, tuple[int, ...]]


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _tiled(values: Tensor, fill: int = 0) -> Tensor:
    """[rows, bytes] of whole lanes -> the bytes of [tiles, lanes, 64] lanes; rows that are missing
    hold `fill`."""
    values = F.pad(values, (0, 0, 0, -len(values) % TILE), value=fill).contiguous()
    lanes = values.view(torch.int32).view(-1, TILE, values.size(1) // 4)
    out = torch.empty(lanes.size(0), lanes.size(2), TILE, dtype=torch.int32)
    for tile, lane in zip(out, lanes, strict=True):
        tile.copy_(lane.t())  # torch transposes in blocks only in two dimensions
    return out.view(torch.uint8).view(-1)


class PlainForm:
    """f32, bf16 or f16, as the activations."""

    def __init__(self, dtype: torch.dtype):
        self.read_as = dtype

    def tensors(self, n: int, k: int) -> dict[str, StoredShape]:
        tiles = ceil_div(n, TILE)
        shape = (tiles, k, TILE) if self.read_as == torch.float32 else (tiles, ceil_div(k, 2), TILE,
                                                                        2)
        return {"weight": (self.read_as, shape)}

    def pack(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """rows [r, k] of type read_as -> bytes of the weight's tiles; no scale."""
        per_lane = 4 // rows.element_size()
        rows = F.pad(rows, (0, -rows.size(1) % per_lane)).contiguous()
        return _tiled(rows.view(torch.uint8)), None


class Int8Form:
    """Symmetric, one scale for each column."""

    read_as = torch.float32

    def __init__(self, moments: Moments | None = None):
        """moments: of the inputs; None: each value is rounded for itself."""
        self._moments = moments

    def tensors(self, n: int, k: int) -> dict[str, StoredShape]:
        tiles = ceil_div(n, TILE)
        return {
            "weight": (torch.uint8, (tiles, ceil_div(k, 4), TILE, 4)),
            "scale": (torch.float32, (tiles, TILE))
        }

    def pack(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """rows [r, k] f32 -> bytes of the weight's tiles, scale [tiles, 64] f32."""
        largest = torch.maximum(rows.amax(1), -rows.amin(1))
        used = largest > _TINY
        inverse = torch.where(used, 127 / largest, 0.0)
        scale = torch.where(used, largest / 127, 0.0)
        if self._moments is None:
            q = (rows * inverse[:, None]).round_().clamp_(-127, 127)
        else:
            q = self._passed_codes(rows, scale, self._moments)
        q = q.add_(128).to(torch.uint8)
        q = F.pad(q, (0, -q.size(1) % 4), value=128)
        return _tiled(q, fill=128), F.pad(scale, (0, -len(scale) % TILE)).view(-1, TILE)

    def _passed_codes(self, rows: Tensor, scale: Tensor, moments: Moments) -> Tensor:
        """[r, k] f32. A tile's sums do not depend on what is beside it."""
        tiles = []
        for tile, step in zip(padded_groups(rows).split(TILE), scale.split(TILE), strict=True):
            values = tile.permute(1, 2, 0).contiguous()
            codes = passed_on(values, moments, step.expand(len(values), -1), 0.0, (-127, 127))
            tiles.append(codes.permute(2, 0, 1).flatten(1)[:, :rows.size(1)])
        return torch.cat(tiles)


class Int4Form:
    """A step and a minimum, both in bf16, for every 128 values of a column."""

    read_as = torch.float32

    def __init__(self, moments: Moments | None = None):
        """moments: of the inputs; None: every error costs the same."""
        self._moments = moments

    def tensors(self, n: int, k: int) -> dict[str, StoredShape]:
        tiles = ceil_div(n, TILE)
        return {"weight": (torch.uint8, (tiles, ceil_div(k, 8), TILE, 4)),
                "scale": (torch.bfloat16, (tiles, ceil_div(k, GROUP), 2, TILE))}

    def pack(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """rows [r, k] f32 -> bytes of the weight's tiles, scale [tiles, G, 2, 64] bf16."""
        codes, scale = int4_codes(rows, self._moments)
        codes = codes.to(torch.uint8)
        low, high = F.pad(codes, (0, -codes.size(1) % 8)).view(len(codes), -1, 2, 4).unbind(2)
        scale = F.pad(scale, (0, 0, 0, 0, 0, -len(scale) % TILE))
        return _tiled((low | high << 4).reshape(len(codes), -1)), scale.view(
            -1, TILE, *scale.shape[1:]).permute(0, 2, 3, 1).contiguous()

    def rounded(self, rows: Tensor) -> Tensor:
        """rows [r, k] f32 -> the values that are stored instead."""
        codes, scale = int4_codes(rows, self._moments)
        step, minimum = (part.float().repeat_interleave(GROUP, 1)[:, :rows.size(1)]
                         for part in scale.unbind(-1))
        return codes * step + minimum


LinearForm = PlainForm | Int8Form | Int4Form


def linear_form(dtype: torch.dtype, quantization: str,
                moments: Moments | None = None) -> LinearForm:
    forms: dict[str, LinearForm] = {
        "none": PlainForm(dtype), "int8": Int8Form(moments), "int4": Int4Form(moments)
    }
    return forms[quantization]
