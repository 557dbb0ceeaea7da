# SPDX-License-Identifier: Apache-2.0
"""Streams weights from a checkpoint into the files of a bundle, a block of rows at a time."""

import math
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from .adjustment import Adjustment
from .checkpoint import Checkpoint
from .errors import ExportError
from .packing import TILE
from .plan import TargetTensor
from .progress import Progress
from .rounding import read_moments
from .weight_files import WeightForm, safetensors_header, stored_tensors
from .writer import HashedFile, WrittenFile

BLOCK_ELEMENTS = 1 << 20  # of a linear in one piece of work, or one tile of it


class WeightWriter:
    """Every core packs blocks; this thread reads, hashes and writes. It holds two blocks for each
    core in memory, and the scales of one linear."""

    def __init__(self, checkpoint: Checkpoint, form: WeightForm, progress: Progress,
                 adjustments: Mapping[str, Adjustment] | None = None):
        self._checkpoint = checkpoint
        self._form = form
        self._adjustments = adjustments or {}
        self._progress = progress
        self._cores = len(os.sched_getaffinity(0))

    def write(self, path: Path, targets: list[TargetTensor]) -> WrittenFile:
        file = HashedFile(path)
        # One thread packs a block: with threads inside torch's operators too, they would wait for
        # each other.
        workers = ThreadPoolExecutor(self._cores, initializer=torch.set_num_threads, initargs=(1,))
        try:
            file.write(safetensors_header(targets, self._form))
            for target in targets:
                for piece in self._pieces(target, workers):
                    view = _bytes(piece)
                    file.write(view)
                    self._progress.advance(len(view))
        except BaseException:
            workers.shutdown(cancel_futures=True)
            file.abandon()
            raise
        workers.shutdown()
        return file.close()

    def tensor(self, target: TargetTensor) -> Tensor:
        """The whole of one that has no scale."""
        (stored,) = stored_tensors(target, self._form)
        with ThreadPoolExecutor(self._cores, initializer=torch.set_num_threads,
                                initargs=(1,)) as workers:
            data = [piece.reshape(-1).view(torch.uint8).clone()
                    for piece in self._pieces(target, workers)]
        self._progress.advance(stored.bytes)
        return torch.cat(data).view(stored.dtype).view(stored.shape)

    def _pieces(self, target: TargetTensor, workers: ThreadPoolExecutor) -> Iterator[Tensor]:
        return self._linear(target, workers) if target.linear else self._plain(target)

    def _plain(self, target: TargetTensor) -> Iterator[Tensor]:
        rows = self._adjustments.get(target.name, Adjustment()).rows
        for name, chunk, first in self._chunks(target):
            out = chunk
            if rows is not None:
                values = math.prod(target.shape[1:])  # of one of the rows
                out = out.float() * rows.repeat_interleave(values)[first:first + len(chunk)]
            out = out.to(self._form.dtype)
            out = out.tanh() if target.tanh else out
            _check_finite(name, chunk, out)
            yield out

    def _linear(self, target: TargetTensor, workers: ThreadPoolExecutor) -> Iterator[Tensor]:
        """The tiles of the weight, then the scale where the form has one."""
        moments = self._adjustments.get(target.name, Adjustment()).moments
        form = self._form.of(target, None if moments is None else read_moments(moments))
        scales: list[Tensor] = []
        waiting: deque[Future] = deque()

        def finish() -> Tensor:
            weight, scale = waiting.popleft().result()
            if scale is not None:
                scales.append(scale)
            return weight
        for block in self._blocks(target, form.read_as):
            waiting.append(workers.submit(form.pack, block))
            if len(waiting) > self._cores:
                yield finish()
        while waiting:
            yield finish()
        yield from scales

    def _blocks(self, target: TargetTensor, dtype: torch.dtype) -> Iterator[Tensor]:
        """[rows, k] of the stacked parts, whole tiles except in the last block. A part need not be
        whole tiles."""
        n, k = target.shape
        rows = max(1, BLOCK_ELEMENTS // (TILE * k)) * TILE
        block, filled = torch.empty(0), 0
        adjustment = self._adjustments.get(target.name, Adjustment())
        done = 0
        for name, piece, _ in self._chunks(target):
            while len(piece):
                if filled == len(block):
                    block, filled = torch.empty(min(rows * k, n * k), dtype=dtype), 0
                    n -= min(rows, n)
                taken = piece[:len(block) - filled]
                out = block[filled:filled + len(taken)]
                out.copy_(taken)
                _check_finite(name, taken, out)
                piece, filled = piece[len(taken):], filled + len(taken)
                if filled == len(block):
                    whole = block.view(-1, k)
                    if adjustment.columns is not None:
                        whole *= adjustment.columns
                    if adjustment.rows is not None:
                        whole *= adjustment.rows[done:done + len(whole), None]
                    done += len(whole)
                    yield whole

    def _chunks(self, target: TargetTensor) -> Iterator[tuple[str, Tensor, int]]:
        """(part, flat piece, number of its first value among those of all parts)"""
        first = 0
        for part in target.parts:
            for chunk in self._checkpoint.chunks(part.name):
                yield part.name, chunk, first
                first += len(chunk)


def _bytes(piece: Tensor) -> memoryview:
    return memoryview(piece.contiguous().view(-1).view(torch.uint8).numpy())


def _is_finite(values: Tensor) -> bool:
    # The smallest and the largest value are NaN where any value is.
    return all(bool(torch.isfinite(edge)) for edge in values.aminmax())


def _check_finite(name: str, stored: Tensor, converted: Tensor) -> None:
    if _is_finite(converted):
        return
    if _is_finite(stored):
        largest = float(stored.float().abs().max())
        raise ExportError(
            f"the tensor {name} holds {largest:g}, more than f16 can hold: use --dtype bf16")
    raise ExportError(
        f"the tensor {name} holds values that are not finite numbers: the checkpoint is damaged, "
        "fetch it again")
