# SPDX-License-Identifier: Apache-2.0
"""Which codes, steps and minima stand for the values of an int4 linear, with the smallest error of
its outputs.

A group is 128 values of a column, w ≈ code · step + minimum."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .rounding import GROUP, Moments, padded_groups, passed_on

_TINY = 1e-30  # a smaller range counts as zero: its reciprocal would not be finite
# Parts of the range of a group that are tried: outliers may be cut off.
_RANGES = (1.0, 0.95, 0.9, 0.85, 0.8)
_FITS = 2  # times that a line is fitted to the codes without moments, then with them
_PASSED_FITS = 2
_LEVELS = (0, 15)
_TILE = 64  # columns that are searched together


def int4_codes(rows: Tensor, moments: Moments | None) -> tuple[Tensor, Tensor]:
    """[r, k] f32 -> codes [r, k] f32, steps and minima [r, G, 2] bf16."""
    count, k = rows.shape
    # The last value of a row leaves the range of its group as it is.
    groups = torch.cat([rows, rows[:, -1:].expand(count, -k % GROUP)], 1).view(count, -1, GROUP)
    if moments is None:
        nothing_counts = padded_groups(torch.ones(k))
        shares = nothing_counts / nothing_counts.sum(1, keepdim=True)
    else:
        shares = moments.shares
    # A tile's passes stay in the cache, and its sums do not depend on what is beside it.
    found = [_tile_codes(tile, shares, moments) for tile in groups.split(_TILE)]
    step, minimum, codes = (torch.cat(parts) for parts in zip(*found, strict=True))
    return codes.reshape(count, -1)[:, :k], torch.stack([step, minimum], -1).to(torch.bfloat16)


def _tile_codes(groups: Tensor, shares: Tensor,
                moments: Moments | None) -> tuple[Tensor, Tensor, Tensor]:
    """groups [r, G, 128] -> step and minimum [r, G], codes [r, G, 128], all f32."""
    found = _best_codes(groups, shares)
    if moments is None:
        return found
    best = _passed_codes(groups, moments, *found)
    return best.step.t(), best.minimum.t(), best.codes.permute(2, 0, 1)


Line = tuple[Tensor, Tensor, Tensor]  # step, minimum, squared error by shares, each [r, G]


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
                     out=out).mul_(inverse[..., None]).round_().clamp_(*_LEVELS)


def _stored(step: Tensor, minimum: Tensor) -> tuple[Tensor, Tensor]:
    """What bf16 keeps of them."""
    return (torch.where(step > _TINY, step, 0.0).to(torch.bfloat16).float(),
            minimum.to(torch.bfloat16).float())


def _better(groups: Tensor, shares: Tensor, best: Line | None, line: tuple[Tensor, Tensor],
            codes: Tensor, scratch: Tensor) -> Line:
    """For each group the better of `best` and `line` (step, minimum)."""
    step, minimum = _stored(*line)
    _encode(groups, step, minimum, codes)
    torch.mul(codes, step[..., None], out=scratch).add_(minimum[..., None]).sub_(groups)
    mine = scratch.square_().mul_(shares).sum(-1)
    if best is None:
        return step, minimum, mine
    wins = mine < best[2]
    step, minimum, mine = (torch.where(wins, new, old)
                           for new, old in zip((step, minimum, mine), best, strict=True))
    return step, minimum, mine


@dataclass(frozen=True)
class _Passed:
    """A choice for all groups. In this layout a value's neighbours in memory are other columns'."""
    step: Tensor  # [G, r]
    minimum: Tensor
    codes: Tensor  # [G, 128, r]
    cost: Tensor  # [G, r]


def _passed_codes(groups: Tensor, moments: Moments, step: Tensor, minimum: Tensor,
                  codes: Tensor) -> _Passed:
    """groups, codes [r, G, 128], step and minimum [r, G]: the better of these codes and of some
    whose errors are passed on."""
    values = groups.permute(1, 2, 0).contiguous()
    step, minimum = step.t().contiguous(), minimum.t().contiguous()
    best = _judged(values, moments, step, minimum, codes.permute(1, 2, 0).contiguous())
    for passes in range(1 + _PASSED_FITS):
        if passes:
            step, minimum = _stored(*_fitted(values, best.codes, moments.cost))
        new = _judged(values, moments, step, minimum,
                      passed_on(values, moments, step, minimum, _LEVELS))
        wins = new.cost < best.cost
        best = _Passed(torch.where(wins, new.step, best.step),
                       torch.where(wins, new.minimum, best.minimum),
                       torch.where(wins[:, None], new.codes, best.codes),
                       torch.where(wins, new.cost, best.cost))
    return best


def _judged(values: Tensor, moments: Moments, step: Tensor, minimum: Tensor,
            codes: Tensor) -> _Passed:
    error = (codes * step[:, None]).add_(minimum[:, None]).sub_(values)
    return _Passed(step, minimum, codes, (moments.cost @ error).mul_(error).sum(1))


def _fitted(values: Tensor, codes: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """The steps and minima [G, r] of which the codes have the smallest cost."""
    codes = codes - 7.5  # near their mean, so that less cancels out
    ones = cost.sum(2)  # the cost of errors that are all alike, [G, 128]
    of_codes = cost @ codes
    square = (of_codes * codes).sum(1)
    both = of_codes.sum(1)
    alike = ones.sum(1, keepdim=True)
    with_values = of_codes.mul_(values).sum(1)
    mean = (ones[:, None] @ values).squeeze(1)
    spread = square * alike - both.square()
    step = torch.where(spread > 1e-6 * square * alike,
                       (with_values * alike - both * mean) / spread, 0.0)
    return step, (mean - step * both) / alike - 7.5 * step
