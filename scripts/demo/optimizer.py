# SPDX-License-Identifier: Apache-2.0
"""Parameters shared by the worker processes, and their optimizer.

All parameters live in one shared flat tensor, each worker has its own flat gradient. After
a barrier every worker updates its own part of the parameters from the mean gradient:
Muon (momentum, then the nearest orthogonal matrix) for the matrices inside layers, AdamW
for everything else.
"""
import math

import torch


def is_matrix(name: str, parameter) -> bool:
    """Whether Muon updates this parameter: the linear layers inside the networks."""
    inside = ".layers." in name or "gated_cross_attn_layers" in name or ".blocks." in name
    return inside and parameter.ndim == 2


def orthogonal(g: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Nearest orthogonal matrices of a batch [B, n, m], roughly (quintic Newton-Schulz)."""
    tall = g.shape[1] > g.shape[2]
    x = g.transpose(1, 2) if tall else g
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(steps):
        a = x @ x.transpose(1, 2)
        b = torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, b, x, beta=3.4445)
    return x.transpose(1, 2) if tall else x


class Shared:
    """The flat tensors every worker sees (all in shared memory)."""

    def __init__(self, model, workers: int):
        named = list(model.named_parameters())
        plain = [(n, p) for n, p in named if not is_matrix(n, p)]
        self.order = plain + [(n, p) for n, p in named if is_matrix(n, p)]
        self.layout, start = [], 0
        for name, parameter in self.order:
            self.layout.append((name, tuple(parameter.shape), start, is_matrix(name, parameter)))
            start += parameter.numel()
        self.plain_size = sum(p.numel() for _, p in plain)
        self.values = torch.cat([p.detach().reshape(-1) for _, p in self.order]).share_memory_()
        del self.order
        self.grads = torch.zeros(workers, start).share_memory_()
        self.momentum = torch.zeros(start).share_memory_()
        self.square = torch.zeros(self.plain_size).share_memory_()
        self.control = torch.zeros(8, dtype=torch.float64).share_memory_()

    def attach(self, model, worker: int) -> None:
        """Make the model's parameters and gradients views of the shared tensors."""
        table = dict(model.named_parameters())
        for name, shape, start, _ in self.layout:
            parameter = table[name]
            stop = start + math.prod(shape)
            parameter.data = self.values[start:stop].view(shape)
            parameter.grad = self.grads[worker, start:stop].view(shape)


class Optimizer:
    """Worker `index` of `workers` updates its share of the parameters."""

    def __init__(self, shared: Shared, index: int, workers: int):
        self.shared, self.index, self.workers = shared, index, workers
        self.rate = torch.ones(shared.plain_size)         # per-element factor
        for name, shape, start, matrix in shared.layout:
            if not matrix:
                self.rate[start:start + math.prod(shape)] = self.factor(name)
        groups = {}
        for name, shape, start, matrix in shared.layout:
            if matrix:
                groups.setdefault((shape, self.factor(name)), []).append(start)
        self.groups = [(shape, factor, starts[index::workers] if n % 2 == 0
                        else starts[workers - 1 - index::workers])
                       for n, ((shape, factor), starts) in enumerate(groups.items())]
        self.vision_factor = 1.0

    @staticmethod
    def factor(name: str) -> float:
        """-1 marks the parameters whose rate follows `vision_factor`."""
        return -1.0 if "vision_model" in name or "perceiver" in name else 1.0

    def _scale(self, factor: float) -> float:
        return self.vision_factor if factor < 0 else factor

    def step(self, muon_rate: float, adam_rate: float, count: int, text: bool = True) -> None:
        """One update; `count` is the number of this step, from 1. Without `text` the
        matrices of the language side, which have no gradient then, stay as they are."""
        self._adam(adam_rate, count)
        for shape, factor, starts in self.groups:
            if starts and (text or factor < 0):
                self._muon(shape, starts, muon_rate * self._scale(factor))

    def _adam(self, rate: float, count: int) -> None:
        s, size = self.shared, self.shared.plain_size
        a, b = size * self.index // self.workers, size * (self.index + 1) // self.workers
        grad = s.grads[:, a:b].mean(0)
        m, v = s.momentum[a:b], s.square[a:b]
        m.lerp_(grad, 0.1)
        v.lerp_(grad * grad, 0.01)
        update = (m / (1 - 0.9 ** count)) / ((v / (1 - 0.99 ** count)).sqrt() + 1e-8)
        factor = torch.where(self.rate[a:b] < 0, self.vision_factor, self.rate[a:b])
        s.values[a:b] -= rate * factor * update

    def _muon(self, shape, starts, rate: float) -> None:
        s, size = self.shared, math.prod(shape)
        updates = []
        for start in starts:
            grad = s.grads[:, start:start + size].mean(0)
            momentum = s.momentum[start:start + size]
            momentum.mul_(0.95).add_(grad)
            updates.append(torch.add(grad, momentum, alpha=0.95).view(shape))
        updates = orthogonal(torch.stack(updates))
        scale = rate * 0.2 * math.sqrt(max(shape))
        for start, update in zip(starts, updates, strict=False):
            value = s.values[start:start + size].view(shape)
            value.mul_(1 - 0.01 * rate).sub_(update, alpha=scale)
