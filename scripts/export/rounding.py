# SPDX-License-Identifier: Apache-2.0
"""Rounding the values of a linear with regard to what it multiplies.

A group is 128 values of a column. Its moments are E[x xᵀ] of its inputs, and an error e of its
values costs eᵀ · moments · e. Values are rounded one after the other and each passes its error on
to those after it, which the same inputs reach (GPTQ, arXiv 2210.17323, inside each group)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP = 128  # values of a column that pass errors on, and in int4 share a step and a minimum
_TINY = 1e-30  # a smaller mean square counts as zero: its reciprocal would not be finite
_TOGETHER = 16  # values after which errors are passed on to all that follow
# Of the moments of two different inputs: they come from few samples, and the next ones differ.
_TRUST = 0.4
_UNSEEN = 0.01  # of the mean square of a group: what was hardly seen may come yet


@dataclass(frozen=True)
class Moments:
    """Of the inputs of a linear, as the search reads them. G groups."""
    shares: Tensor  # [G, 128]: what a squared error of a value costs; their sum is 1
    cost: Tensor  # [G, 128, 128]
    passed: Tensor  # [G, 128, 128]: [g, i, j] of an error of value i is taken from value j > i


def padded_groups(values: Tensor, fill: float = 0) -> Tensor:
    """[..., k] -> [..., G, 128]; what is missing of the last one is `fill`."""
    return F.pad(values, (0, -values.size(-1) % GROUP), value=fill).unflatten(-1, (-1, GROUP))


def read_moments(found: Tensor) -> Moments:
    """found [G, 128, 128], of any size."""
    found = found.double()
    size = found.diagonal(dim1=1, dim2=2).clamp_min(_TINY)
    size = size.maximum(_UNSEEN * size.mean(1, keepdim=True))
    size = size / size.sum(1, keepdim=True)
    scale = found.diagonal(dim1=1, dim2=2).sum(1).clamp_min(_TINY)
    cost = _TRUST * found / scale[:, None, None]
    cost.diagonal(dim1=1, dim2=2).copy_(size)
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(cost)), upper=True)
    passed = factor / factor.diagonal(dim1=1, dim2=2)[..., None]
    return Moments(size.float(), cost.float(), passed.float())


def passed_on(values: Tensor, moments: Moments, step: Tensor, minimum: Tensor | float,
              levels: tuple[int, int]) -> Tensor:
    """Codes [G, 128, r], the smallest and largest of which are `levels`, of values [G, 128, r], one
    after the other; step and minimum [G, r]."""
    wanted, codes = values.clone(), torch.empty_like(values)
    inverse = torch.where(step > 0, 1 / step, 0.0)
    errors = torch.empty_like(values[:, :_TOGETHER])
    for first in range(0, GROUP, _TOGETHER):
        end = first + _TOGETHER
        for i in range(first, end):
            code = torch.sub(wanted[:, i], minimum).mul_(inverse).round_().clamp_(*levels)
            codes[:, i] = code
            error = torch.sub(wanted[:, i], code.mul_(step).add_(minimum), out=errors[:, i - first])
            if i + 1 < end:
                wanted[:, i + 1:end].sub_(moments.passed[:, i, i + 1:end, None] * error[:, None])
        if end < GROUP:
            wanted[:, end:].baddbmm_(moments.passed[:, first:end, end:].mT, errors, alpha=-1)
    return codes
