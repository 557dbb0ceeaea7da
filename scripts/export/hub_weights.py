# SPDX-License-Identifier: Apache-2.0
"""The weight files of a repository on the hub. Names and shapes come from their first bytes; each
file is on the disk only from shortly before its first tensor is read until its last one was."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from .checkpoint import SafetensorsFile, StoredTensor, WeightFile
from .errors import ExportError
from .hub import HubFile, HubRepo
from .plan import TargetTensor


class _StoppedError(Exception):
    """Ends a download that nobody waits for any more."""


class HubShard(WeightFile):
    """REQUIRES: begin() of its HubShards before chunks()."""

    def __init__(
        self, shards: "HubShards", file: HubFile, header: dict[str, tuple[str, tuple[int, ...]]]
    ):
        self.file = file
        self._shards = shards
        self._tensors = [
            StoredTensor(name, dtype, shape, self, name) for name, (dtype, shape) in header.items()
        ]
        self._open: SafetensorsFile | None = None
        self._by_name: dict[str, StoredTensor] = {}

    def tensors(self) -> list[StoredTensor]:
        return self._tensors

    def chunks(self, tensor: StoredTensor) -> Iterator[Tensor]:
        if self._open is None:
            self._open = SafetensorsFile(self._shards.path(self))
            self._by_name = {found.name: found for found in self._open.tensors()}
            found = [(t.name, t.dtype, t.shape) for t in self._by_name.values()]
            if found != [(t.name, t.dtype, t.shape) for t in self._tensors]:
                raise ExportError(
                    f"{self.file.name} has another header than the hub gave before: run the "
                    "export again"
                )
        yield from self._open.chunks(self._by_name[tensor.name])
        if self._shards.was_read(self):
            self._open.close()
            self._open = None


class HubShards:
    """Downloads one file ahead, on a thread of its own."""

    def __init__(self, repo: HubRepo, names: Sequence[str]):
        """Asks for the header of each file."""
        self.files = [HubShard(self, repo.files[name], repo.header(name)) for name in names]
        self.repo = repo
        self._reads: list[tuple[HubShard, int]] = []
        self._order: list[HubShard] = []
        self._reads_left: Counter[HubShard] = Counter()
        self._downloads: dict[HubShard, Future[Path]] = {}
        self._thread = ThreadPoolExecutor(1, "download")
        self._stopped = False
        self._scratch = Path()
        self._advance: Callable[[int], None] = lambda _: None

    def plan(
        self,
        seen: Sequence[TargetTensor],
        targets: Sequence[TargetTensor],
        stored: Callable[[TargetTensor], int],
    ) -> None:
        """What will be read, and in which order: `seen` by a calibration, then `targets`, which are
        written. `stored`: the bytes of a target in the bundle."""
        holder = {tensor.name: shard for shard in self.files for tensor in shard.tensors()}
        self._reads = [(holder[part.name], 0) for target in seen for part in target.parts]
        self._reads += [
            (holder[part.name], stored(target) if part == target.parts[-1] else 0)
            for target in targets
            for part in target.parts
        ]
        self._order = list(dict.fromkeys(shard for shard, _ in self._reads))
        self._reads_left = Counter(shard for shard, _ in self._reads)

    def download_bytes(self) -> int:
        return sum(shard.file.bytes for shard in self._order)

    def disk_bytes(self) -> int:
        """The most that downloads and what is written take together."""
        last = {shard: i for i, (shard, _) in enumerate(self._reads)}
        peak = written = begun = 0
        for i, (shard, size) in enumerate(self._reads):
            begun = max(begun, self._order.index(shard) + 2)
            written += size
            here = sum(s.file.bytes for s in self._order[:begun] if last[s] >= i)
            peak = max(peak, written + here)
        return peak

    def begin(self, scratch: Path, advance: Callable[[int], None]) -> None:
        """REQUIRES: plan(), and no chunk read before. `advance` is told every downloaded byte,
        on another thread."""
        self._scratch = scratch
        self._advance = advance
        wanted = {shard.file.name for shard in self._order}
        for left in scratch.iterdir():
            if left.name.removesuffix(".part") not in wanted:
                left.unlink()

    def path(self, shard: HubShard) -> Path:
        """Waits for the file, and has the next one follow it."""
        place = self._order.index(shard)
        for wanted in self._order[place : place + 2]:
            if wanted not in self._downloads:
                self._downloads[wanted] = self._thread.submit(
                    self.repo.fetch, wanted.file, self._scratch, self._arrived
                )
        return self._downloads[shard].result()

    def was_read(self, shard: HubShard) -> bool:
        """One more tensor of the file has been read. True, and the file is gone, if it was the
        last."""
        self._reads_left[shard] -= 1
        if self._reads_left[shard]:
            return False
        path = self._downloads[shard].result()
        if path.parent == self._scratch:  # and not in the hub's cache, where others may want it
            path.unlink()
        return True

    def stop(self) -> None:
        self._stopped = True
        self._thread.shutdown(cancel_futures=True)

    def _arrived(self, count: int) -> None:
        if self._stopped:
            raise _StoppedError
        self._advance(count)
