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

TILE = 64
GROUP = 128  # values of a column that share a step and a minimum in int4
_TINY = 1e-30  # a smaller range counts as zero: its reciprocal would not be finite
# Parts of the range of an int4 group that are tried: outliers may be cut off.
_RANGES = (1.0, 0.92, 0.84)

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
        q = (rows * inverse[:, None]).round_().clamp_(-127, 127).add_(128).to(torch.uint8)
        q = F.pad(q, (0, -q.size(1) % 4), value=128)
        return _tiled(q, fill=128), F.pad(scale, (0, -len(scale) % TILE)).view(-1, TILE)


class Int4Form:
    """A step and a minimum, both in bf16, for every 128 values of a column."""

    read_as = torch.float32

    def tensors(self, n: int, k: int) -> dict[str, StoredShape]:
        tiles = ceil_div(n, TILE)
        return {"weight": (torch.uint8, (tiles, ceil_div(k, 8), TILE, 4)),
                "scale": (torch.bfloat16, (tiles, ceil_div(k, GROUP), 2, TILE))}

    def pack(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """rows [r, k] f32 -> bytes of the weight's tiles, scale [tiles, G, 2, 64] bf16."""
        # A tile fits the cache, and there are many passes over it.
        pieces = [_int4_rows(tile) for tile in rows.split(TILE)]
        codes = torch.cat([code for code, _ in pieces])
        scale = torch.cat([scale for _, scale in pieces])  # [r, G, 2]
        scale = F.pad(scale, (0, 0, 0, 0, 0, -len(scale) % TILE))
        return _tiled(codes), scale.view(-1, TILE, *scale.shape[1:]).permute(0, 2, 3,
                                                                             1).contiguous()


def _int4_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """[r, k] -> bytes [r, 4 ceil(k / 8)], steps and minima [r, G, 2] bf16."""
    count, k = rows.shape
    missing = -k % GROUP
    if missing:  # padded with the last value, which leaves the range of its group as it is
        rows = torch.cat([rows, rows[:, -1:].expand(count, missing)], 1)
    groups = rows.reshape(count, -1, GROUP)
    step, minimum, codes = _best_codes(groups)
    codes = codes.to(torch.uint8).view(count, -1)[:, :k]
    low, high = F.pad(codes, (0, -k % 8)).view(count, -1, 2, 4).unbind(2)
    return (low | high << 4).reshape(count, -1), torch.stack([step, minimum], -1).to(torch.bfloat16)


def _best_codes(groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[r, G, 128] -> step and minimum [r, G], codes [r, G, 128], all f32. Tries some ranges, then
    the straight line fitted to the best of them, and takes whatever has the smallest squared
    error."""
    codes, scratch = torch.empty_like(groups), torch.empty_like(groups)
    low, high = groups.amin(-1), groups.amax(-1)
    middle, half = (low + high) / 2, (high - low) / 2
    best: tuple[Tensor, Tensor, Tensor] | None = None
    for part in _RANGES:
        best = _better(groups, best, (2 * half * part / 15, middle - half * part), codes, scratch)
    assert best is not None
    step, minimum, _ = best
    average = _encode(groups, step, minimum, codes).mean(-1)
    spread = torch.mul(codes, codes, out=scratch).mean(-1) - average.square()
    slope = torch.mul(codes, groups, out=scratch).mean(-1) - average * groups.mean(-1)
    slope = torch.where(spread > 0, slope / spread, 0.0)
    step, minimum, _ = _better(groups, best, (slope, groups.mean(-1) - slope * average), codes,
                               scratch)
    return step, minimum, _encode(groups, step, minimum, codes)


def _encode(groups: Tensor, step: Tensor, minimum: Tensor, out: Tensor) -> Tensor:
    inverse = torch.where(step > 0, 1 / step, 0.0)
    return torch.sub(groups, minimum[..., None],
                     out=out).mul_(inverse[..., None]).round_().clamp_(0, 15)


def _better(groups: Tensor, best: tuple[Tensor, Tensor, Tensor] | None, line: tuple[Tensor, Tensor],
            codes: Tensor, scratch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each group the better of `best` and `line` (step, minimum) -> step, minimum, squared
    error, each [r, G]."""
    step = torch.where(line[0] > _TINY, line[0], 0.0).to(torch.bfloat16).float()
    minimum = line[1].to(torch.bfloat16).float()
    _encode(groups, step, minimum, codes)
    torch.mul(codes, step[..., None], out=scratch).add_(minimum[..., None]).sub_(groups)
    mine = scratch.square_().sum(-1)
    if best is None:
        return step, minimum, mine
    wins = mine < best[2]
    step, minimum, mine = (torch.where(wins, new, old)
                           for new, old in zip((step, minimum, mine), best, strict=True))
    return step, minimum, mine


LinearForm = PlainForm | Int8Form | Int4Form


def linear_form(dtype: torch.dtype, quantization: str) -> LinearForm:
    forms: dict[str,
                LinearForm] = {"none": PlainForm(dtype), "int8": Int8Form(), "int4": Int4Form()}
    return forms[quantization]
