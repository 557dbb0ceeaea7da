# SPDX-License-Identifier: Apache-2.0
"""Writes a bundle folder: weight files tensor by tensor, and the folder under its final name only when whole."""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import torch
from torch import Tensor

from .checkpoint import CHUNK_BYTES, Checkpoint
from .errors import ExportError
from .plan import TargetTensor
from .progress import Progress

MAX_FILE_BYTES = 4_000_000_000  # of weights in one file; a larger tensor gets a file of its own
ALIGNMENT = 64  # bytes; a cache line, and what AVX-512 and device copies like
SAFETENSORS_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


@dataclass(frozen=True)
class WrittenFile:
    bytes: int
    sha256: str


class HashedFile:
    """A new file, written from front to back, hashed on the way and on the disk when closed."""

    def __init__(self, path: Path):
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._hash = hashlib.sha256()
        self._bytes = 0

    def write(self, data) -> None:
        view = memoryview(data)
        self._hash.update(view)
        self._bytes += len(view)
        while view:
            view = view[os.write(self._fd, view):]

    def close(self) -> WrittenFile:
        os.fsync(self._fd)
        self.abandon()
        return WrittenFile(self._bytes, self._hash.hexdigest())

    def abandon(self) -> None:
        os.close(self._fd)


def write_file(path: Path, data: bytes) -> WrittenFile:
    file = HashedFile(path)
    try:
        file.write(data)
    except BaseException:
        file.abandon()
        raise
    return file.close()


def tensor_bytes(target: TargetTensor, dtype: torch.dtype) -> int:
    return torch.Size(target.shape).numel() * dtype.itemsize


def split_into_files(plan: List[TargetTensor], dtype: torch.dtype, limit: int) -> List[List[TargetTensor]]:
    """Load order, except that in each file the tensors of an odd size come last, so that all others are aligned."""
    files: List[List[TargetTensor]] = [[]]
    size = 0
    for target in plan:
        if files[-1] and size + tensor_bytes(target, dtype) > limit:
            files.append([])
            size = 0
        files[-1].append(target)
        size += tensor_bytes(target, dtype)
    return [sorted(file, key=lambda target: tensor_bytes(target, dtype) % ALIGNMENT != 0) for file in files]


def safetensors_header(tensors: List[TargetTensor], dtype: torch.dtype) -> bytes:
    entries: Dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for target in tensors:
        end = offset + tensor_bytes(target, dtype)
        entries[target.name] = {"dtype": SAFETENSORS_NAMES[dtype], "shape": list(target.shape),
                                "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


class WeightWriter:
    """Streams planned tensors from a checkpoint into safetensors files. Holds two chunks in memory."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype, progress: Progress):
        self._checkpoint = checkpoint
        self._dtype = dtype
        self._progress = progress
        self._buffer = bytearray(CHUNK_BYTES * 2)  # a chunk of 16-bit values grows to twice its size in f32

    def write(self, path: Path, tensors: List[TargetTensor]) -> WrittenFile:
        file = HashedFile(path)
        try:
            file.write(safetensors_header(tensors, self._dtype))
            for target in tensors:
                for part in target.parts:
                    for piece in self._converted(part.name, target.tanh):
                        file.write(piece)
                        self._progress.advance(len(piece))
        except BaseException:
            file.abandon()
            raise
        return file.close()

    def _converted(self, name: str, tanh: bool) -> Iterator[memoryview]:
        for chunk in self._checkpoint.chunks(name):
            size = chunk.numel() * self._dtype.itemsize
            view = memoryview(self._buffer)[:size]
            out = torch.frombuffer(view, dtype=self._dtype)
            out.copy_(chunk)
            if tanh:
                out.copy_(out.tanh())
            self._check_finite(name, chunk, out)
            yield view

    def _check_finite(self, name: str, chunk: Tensor, out: Tensor) -> None:
        # The smallest and the largest value are NaN as soon as one value is.
        if all(bool(torch.isfinite(edge)) for edge in out.aminmax()):
            return
        if all(bool(torch.isfinite(edge)) for edge in chunk.aminmax()):
            largest = float(chunk.float().abs().max())
            raise ExportError(f"the tensor {name} holds {largest:g}, more than f16 can hold: use --dtype bf16")
        raise ExportError(f"the tensor {name} holds values that are not finite numbers: the checkpoint is damaged, "
                          "fetch it again")


def check_free_space(parent: Path, needed: int) -> None:
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise ExportError(f"the bundle needs {needed / 1e9:.2f} GB, {parent} has {free / 1e9:.2f} GB free: free some "
                          "space or give another place")


def disk_full(path: Path) -> ExportError:
    return ExportError(f"the disk of {path} became full while the bundle was written: free some space and run the "
                       "export again")


def is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class BundleFolder:
    """A folder NAME.partial-PID beside the final one, renamed to it by commit(), removed otherwise.

    It is locked while it is written, so that what an interrupted export left behind can be told apart and removed.
    """

    def __init__(self, final: Path, replace: bool):
        self._final = final
        self._replace = replace
        if os.path.lexists(final) and not replace:
            raise ExportError(f"{final} exists already: give another name, or --force to replace it")
        if replace and os.path.lexists(final) and not _is_bundle(final):
            raise ExportError(f"{final} exists and is not a bundle: --force replaces bundles only, give another name")
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(final)
        self.path = final.with_name(f"{final.name}.partial-{os.getpid()}")
        self.path.mkdir()
        self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __enter__(self) -> "BundleFolder":
        return self

    def __exit__(self, *_) -> None:
        os.close(self._fd)
        shutil.rmtree(self.path, ignore_errors=True)

    def commit(self) -> None:
        os.fsync(self._fd)
        old = self._final.with_name(f"{self._final.name}.partial-old-{os.getpid()}")
        if self._replace and os.path.lexists(self._final):
            os.rename(self._final, old)
        os.rename(self.path, self._final)
        parent = os.open(self._final.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
        shutil.rmtree(old, ignore_errors=True)


def _is_bundle(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and ((path / "bundle.json").is_file() or not any(path.iterdir()))


def _remove_abandoned(final: Path) -> None:
    pattern = re.compile(re.escape(final.name) + r"\.partial-(old-)?\d+")
    for path in final.parent.iterdir():
        if not pattern.fullmatch(path.name) or not path.is_dir():
            continue
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            pass  # another export is writing it
        finally:
            os.close(fd)


def file_names(count: int) -> List[str]:
    return [f"weights-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]


def planned_files(plan: List[TargetTensor], dtype: torch.dtype) -> List[Tuple[str, List[TargetTensor]]]:
    groups = split_into_files(plan, dtype, MAX_FILE_BYTES)
    return list(zip(file_names(len(groups)), groups))
