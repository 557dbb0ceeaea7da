# SPDX-License-Identifier: Apache-2.0
"""The linears as weightless submodules, one class per stored form of packing.py. Each has its
number of columns as an attribute: of a model that is divided among devices, each gets a part."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


def declare(module: nn.Module, *names: str, dtype: torch.dtype = torch.float32) -> None:
    """Registers empty parameters, which the loader replaces by the bundle's tensors."""
    for name in names:
        module.register_parameter(name,
                                  nn.Parameter(torch.empty(0, dtype=dtype), requires_grad=False))


class PackedLinear(nn.Module):
    """x [..., k] -> [..., n] by a weight in the activations' type."""

    n: int

    def __init__(self, n: int):
        super().__init__()
        self.n = n
        declare(self, "weight")

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.idefics.linear_packed(x, self.weight, self.n)


class Int8Linear(nn.Module):
    """x [..., k] -> [..., n] by an 8-bit weight with one scale for each column."""

    n: int

    def __init__(self, n: int):
        super().__init__()
        self.n = n
        declare(self, "weight", dtype=torch.uint8)
        declare(self, "scale")

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.idefics.linear_int8(x, self.weight, self.scale, self.n)


class Int4Linear(nn.Module):
    """x [..., k] -> [..., n] by a 4-bit weight with a step and a minimum for each column and 128
    values of k."""

    n: int

    def __init__(self, n: int):
        super().__init__()
        self.n = n
        declare(self, "weight", dtype=torch.uint8)
        declare(self, "scale")

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.idefics.linear_int4(x, self.weight, self.scale, self.n)


_LINEARS: dict[str, type[nn.Module]] = {
    "none": PackedLinear, "int8": Int8Linear, "int4": Int4Linear
}


@dataclass(frozen=True)
class Widths:
    """How the linears of a module are stored."""
    usual: str  # "none", "int8", "int4"
    int8: frozenset[str] = frozenset()  # linears that have 8 bits instead, by their paths

    def linear(self, name: str, n: int) -> nn.Module:
        return _LINEARS["int8" if name in self.int8 else self.usual](n)

    def of(self, part: str) -> "Widths":
        """Those of a module inside."""
        prefix = f"{part}."
        return Widths(
            self.usual,
            frozenset(name.removeprefix(prefix) for name in self.int8 if name.startswith(prefix)))
