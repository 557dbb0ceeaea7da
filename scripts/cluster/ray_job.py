# SPDX-License-Identifier: Apache-2.0
"""Ray Data as the driver: it hands the pieces to as many workers as are asked for, on any node, and
starts again those that die. What it may hand out twice is answered once: see plan.py."""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext

from cluster.answers import Count
from cluster.plan import Piece
from cluster.worker import Options, Worker


@dataclass(frozen=True)
class Resources:
    address: str | None = None  # of a cluster; None is this machine
    workers: int = 1
    gpus: float = 0  # a worker's
    cpus: float = 1


class RayWorker:
    def __init__(self, options: Options) -> None:
        self._worker = Worker(options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        names = list(batch)
        pieces = [Piece(**dict(zip(names, values, strict=True)))
                  for values in zip(*(batch[name].tolist() for name in names), strict=True)]
        counts = [self._worker.answer(piece) for piece in pieces]
        return {"rows": [count.rows for count in counts],
                "errors": [count.errors for count in counts]}


def answer_all(pieces: list[Piece], options: Options, resources: Resources) -> Iterator[Count]:
    """A count for each piece as it is done. Raises what Ray raises where a server will not do."""
    # Ray Data restarts actors and repeats their tasks without end by itself.
    ray.init(address=resources.address, log_to_driver=False,
             runtime_env={"py_modules": [str(Path(__file__).parent)]})
    DataContext.get_current().enable_progress_bars = sys.stderr.isatty()
    counts = (ray.data.from_items([asdict(piece) for piece in pieces],
                                  override_num_blocks=len(pieces))
              .map_batches(RayWorker, fn_constructor_args=(options,), batch_size=1,
                           compute=ActorPoolStrategy(size=min(resources.workers, len(pieces))),
                           num_cpus=resources.cpus, num_gpus=resources.gpus))
    for row in counts.iter_rows():
        yield Count(int(row["rows"]), int(row["errors"]))
