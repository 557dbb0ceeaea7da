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
_RANGES = (1.0, 0.95, 0.9, 0.85, 0.8)
_FITS = 2  # times that a line is fitted to the codes

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

    def __init__(self, importance: Tensor | None = None):
        """importance [k] > 0: what a squared error of each value of a column costs."""
        self._importance = importance

    def tensors(self, n: int, k: int) -> dict[str, StoredShape]:
        tiles = ceil_div(n, TILE)
        return {"weight": (torch.uint8, (tiles, ceil_div(k, 8), TILE, 4)),
                "scale": (torch.bfloat16, (tiles, ceil_div(k, GROUP), 2, TILE))}

    def pack(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """rows [r, k] f32 -> bytes of the weight's tiles, scale [tiles, G, 2, 64] bf16."""
        # A tile fits the cache, and there are many passes over it.
        found = [_int4_codes(tile, self._importance) for tile in rows.split(TILE)]
        codes = torch.cat([codes for codes, _ in found]).to(torch.uint8)
        low, high = F.pad(codes, (0, -codes.size(1) % 8)).view(len(codes), -1, 2, 4).unbind(2)
        scale = torch.cat([scale for _, scale in found])  # [r, G, 2]
        scale = F.pad(scale, (0, 0, 0, 0, 0, -len(scale) % TILE))
        return _tiled((low | high << 4).reshape(len(codes), -1)), scale.view(
            -1, TILE, *scale.shape[1:]).permute(0, 2, 3, 1).contiguous()

    def rounded(self, rows: Tensor) -> Tensor:
        """rows [r, k] f32 -> the values that are stored instead."""
        codes, scale = _int4_codes(rows, self._importance)
        step, minimum = (part.float().repeat_interleave(GROUP, 1)[:, :rows.size(1)]
                         for part in scale.unbind(-1))
        return codes * step + minimum


def _int4_codes(rows: Tensor, importance: Tensor | None) -> tuple[Tensor, Tensor]:
    """[r, k] -> codes [r, k] f32, steps and minima [r, G, 2] bf16."""
    count, k = rows.shape
    missing = -k % GROUP
    if importance is None:
        importance = torch.ones(k)
    if missing:  # padded with the last value, which leaves the range of its group as it is
        rows = torch.cat([rows, rows[:, -1:].expand(count, missing)], 1)
    # Their sum in a group is 1; nothing counts for nothing.
    shares = F.pad(importance.clamp_min(_TINY), (0, missing)).view(-1, GROUP)
    shares = shares / shares.sum(1, keepdim=True)
    step, minimum, codes = _best_codes(rows.reshape(count, -1, GROUP), shares)
    return codes.view(count, -1)[:, :k], torch.stack([step, minimum], -1).to(torch.bfloat16)


def _best_codes(groups: Tensor, shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """groups [r, G, 128], shares [G, 128] -> step and minimum [r, G], codes [r, G, 128], all f32.
    Tries some ranges, then straight lines fitted to the best codes so far, and takes whatever has
    the smallest squared error, each value by its share."""
    codes, scratch = torch.empty_like(groups), torch.empty_like(groups)
    low, high = groups.amin(-1), groups.amax(-1)
    middle, half = (low + high) / 2, (high - low) / 2
    best: Line | None = None
    for part in _RANGES:
        line = 2 * half * part / 15, middle - half * part
        best = _better(groups, shares, best, line, codes, scratch)
    assert best is not None
    mean = torch.mul(groups, shares, out=scratch).sum(-1)
    for _ in range(_FITS):
        step, minimum, _ = best
        _encode(groups, step, minimum, codes)
        weighted = torch.mul(codes, shares, out=scratch)
        average = weighted.sum(-1)
        square = (weighted * codes).sum(-1) - average.square()
        slope = weighted.mul_(groups).sum(-1) - average * mean
        slope = torch.where(square > 0, slope / square, 0.0)
        best = _better(groups, shares, best, (slope, mean - slope * average), codes, scratch)
    step, minimum, _ = best
    return step, minimum, _encode(groups, step, minimum, codes)


def _encode(groups: Tensor, step: Tensor, minimum: Tensor, out: Tensor) -> Tensor:
    inverse = torch.where(step > 0, 1 / step, 0.0)
    return torch.sub(groups, minimum[..., None],
                     out=out).mul_(inverse[..., None]).round_().clamp_(0, 15)


Line = tuple[Tensor, Tensor, Tensor]  # step, minimum, squared error by shares, each [r, G]


def _better(groups: Tensor, shares: Tensor, best: Line | None, line: tuple[Tensor, Tensor],
            codes: Tensor, scratch: Tensor) -> Line:
    """For each group the better of `best` and `line` (step, minimum)."""
    step = torch.where(line[0] > _TINY, line[0], 0.0).to(torch.bfloat16).float()
    minimum = line[1].to(torch.bfloat16).float()
    _encode(groups, step, minimum, codes)
    torch.mul(codes, step[..., None], out=scratch).add_(minimum[..., None]).sub_(groups)
    mine = scratch.square_().mul_(shares).sum(-1)
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
