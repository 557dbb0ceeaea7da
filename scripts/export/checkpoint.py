# SPDX-License-Identifier: Apache-2.0
"""Reads the weights of a Hugging Face checkpoint folder piece by piece, so that no tensor is ever
whole in memory.

Safetensors files are parsed here (the format: u64 header length, JSON header, data) and read with
pread; `.bin` files are mapped by torch.load and their pages given back as soon as they are used.
"""

import ctypes
import json
import math
import mmap
import os
import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .config import read_json
from .errors import ExportError

Shape = tuple[int, ...]

CHUNK_BYTES = 32 << 20
MAX_HEADER_BYTES = 100_000_000
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Sizes of what a header may name besides DTYPES; such tensors may be present but not be used.
_OTHER_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4,
    "F64": 8, "I64": 8, "U64": 8
}
_MADV_DONTNEED = 4


@dataclass(frozen=True)
class StoredTensor:
    name: str
    dtype: str  # as in a safetensors header: "BF16"
    shape: Shape
    file: "WeightFile"
    place: Any  # where in the file; only `file` understands it

    @property
    def count(self) -> int:
        return math.prod(self.shape)


class WeightFile:
    """tensors() names what is inside; chunks() yields flat pieces, each valid until the next is
    asked for."""

    def tensors(self) -> list[StoredTensor]:
        raise NotImplementedError

    def chunks(self, tensor: StoredTensor) -> Iterator[Tensor]:
        raise NotImplementedError


class SafetensorsFile(WeightFile):
    def __init__(self, path: Path):
        self._path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        size = os.fstat(self._fd).st_size
        length = int.from_bytes(os.pread(self._fd, 8, 0), "little")
        if size < 8 or length > MAX_HEADER_BYTES or 8 + length > size:
            raise self._broken(f"its {size} bytes cannot hold a header of {length} bytes")
        self._data = 8 + length
        self._header = self._parse(os.pread(self._fd, length, 8), size - self._data)

    def _broken(self, why: str) -> ExportError:
        return ExportError(f"{self._path} is not a whole safetensors file, {why}: fetch it again")

    def _parse(self, raw: bytes, data_bytes: int) -> dict[str, Any]:
        try:
            pairs = json.loads(raw, object_pairs_hook=list)
            header = {name: dict(entry) for name, entry in pairs if name != "__metadata__"}
            sizes = {name: self._check(name, entry) for name, entry in header.items()}
        except (ValueError, TypeError, KeyError, RecursionError):
            raise self._broken("its header is not what the format asks for") from None
        if not raw.startswith(b"{"):
            raise self._broken("its header is not a JSON object")
        end = max(sizes.values(), default=0)
        if end != data_bytes:
            raise self._broken(f"its header promises {end} bytes of weights, it holds {data_bytes}")
        if len(header) < sum(name != "__metadata__" for name, _ in pairs):
            raise self._broken("its header names a tensor twice")
        return header

    def _check(self, name: str, entry: dict[str, Any]) -> int:
        shape, (begin, end) = entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in numbers):
            raise ValueError(name)
        element = DTYPES[entry["dtype"]].itemsize if entry["dtype"] in DTYPES else _OTHER_SIZES[
            entry["dtype"]]
        if math.prod(shape) * element != end - begin:
            raise ValueError(name)
        return end

    def tensors(self) -> list[StoredTensor]:
        return [
            StoredTensor(name, entry["dtype"], tuple(entry["shape"]), self,
                         entry["data_offsets"][0]) for name, entry in self._header.items()
        ]

    def chunks(self, tensor: StoredTensor) -> Iterator[Tensor]:
        dtype = DTYPES[tensor.dtype]
        position = self._data + tensor.place
        end = position + tensor.count * dtype.itemsize
        buffer = bytearray(min(CHUNK_BYTES, end - position))
        while position < end:
            view = memoryview(buffer)[:end - position]
            filled = 0
            while filled < len(view):
                read = os.preadv(self._fd, [view[filled:]], position + filled)
                if read == 0:
                    raise self._broken("it became shorter while it was read")
                filled += read
            os.posix_fadvise(self._fd, position, len(view), os.POSIX_FADV_DONTNEED)
            position += len(view)
            yield torch.frombuffer(view, dtype=dtype)

    def close(self) -> None:
        os.close(self._fd)


_BIN_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


class _TorchFile(WeightFile):
    def __init__(self, path: Path):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
            if "mmap can only be used" in str(error):
                raise ExportError(
                    f"{path} is in the format of torch before 1.6: load and save it once with "
                    "transformers' save_pretrained") from None
            raise ExportError(
                f"{path} cannot be read as weights of torch: fetch it again") from None
        if not isinstance(state, dict) or not all(
                isinstance(name, str) and isinstance(value, Tensor)
                for name, value in state.items()):
            raise ExportError(
                f"{path} does not hold a plain table of tensors: give the model's own weight file")
        self._state: dict[str, Tensor] = state

    def tensors(self) -> list[StoredTensor]:
        return [
            StoredTensor(name, _BIN_NAMES.get(value.dtype, str(value.dtype)), tuple(value.shape),
                         self, name) for name, value in self._state.items()
        ]

    def chunks(self, tensor: StoredTensor) -> Iterator[Tensor]:
        flat = self._state[tensor.place].contiguous().view(-1)
        step = CHUNK_BYTES // flat.element_size()
        for begin in range(0, flat.numel(), step):
            piece = flat[begin:begin + step]
            yield piece
            _forget_pages(piece)


def _forget_pages(piece: Tensor) -> None:
    """Takes the whole pages of a mapped piece out of this process's memory; reading them again is
    harmless."""
    begin = -(-piece.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (piece.data_ptr() + piece.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > begin:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin),
                                  _MADV_DONTNEED)


class Checkpoint:
    """All tensors of a checkpoint by name."""

    def __init__(self, where: str, files: Iterable[tuple[str, WeightFile, list[str]]]):
        """`where` in words. Of each file its name in words, itself, and the tensors that the index
        puts into it."""
        self.tensors: dict[str, StoredTensor] = {}
        for path, file, expected in files:
            names = set()
            for tensor in file.tensors():
                if tensor.name in self.tensors:
                    raise ExportError(
                        f"{where} holds the tensor {tensor.name} in two weight files: fetch it "
                        f"again"
                    )
                self.tensors[tensor.name] = tensor
                names.add(tensor.name)
            lost = sorted(set(expected) - names)
            if lost:
                raise ExportError(
                    f"{path} lacks the tensor {lost[0]}, which the index puts there: fetch it again"
                )

    def shapes(self) -> dict[str, Shape]:
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def dtype(self) -> str:
        """The type of most weight bytes, e.g. "BF16"."""
        counts: Counter = Counter()
        for tensor in self.tensors.values():
            counts[tensor.dtype] += tensor.count
        if not counts:
            raise ExportError("the checkpoint's weight files hold no tensor: fetch them again")
        return counts.most_common(1)[0][0]

    def chunks(self, name: str) -> Iterator[Tensor]:
        """Flat pieces in the stored type; each is valid until the next is asked for."""
        tensor = self.tensors[name]
        if tensor.dtype not in DTYPES:
            raise ExportError(
                f"the tensor {name} is stored as {tensor.dtype}, expected {', '.join(DTYPES)}: "
                f"give a "
                "checkpoint that is not quantized")
        return tensor.file.chunks(tensor)


def open_folder(folder: Path) -> Checkpoint:
    files = weight_files(folder, lambda name: (folder / name).is_file())
    for name in files:
        if not (folder / name).is_file():
            raise ExportError(
                f"{folder / name} is missing, the index of the weights names it: fetch it again")
    return Checkpoint(str(folder), [(str(folder / name), _open_file(folder / name), expected)
                                    for name, expected in files.items()])


def _open_file(path: Path) -> WeightFile:
    return SafetensorsFile(path) if path.suffix == ".safetensors" else _TorchFile(path)


def weight_files(folder: Path, has: Callable[[str], bool]) -> dict[str, list[str]]:
    """{file: names that the index puts into it}, safetensors before .bin. `has` tells whether the
    checkpoint has a file of a name; its index, if it has one, is in `folder`."""
    for single in ("model.safetensors", "pytorch_model.bin"):
        if has(single):
            return {single: []}
        if has(f"{single}.index.json"):
            return _indexed_files(folder / f"{single}.index.json")
    raise ExportError(
        f"{folder} has no weights: expected model.safetensors or pytorch_model.bin, or the "
        f"index.json "
        "of its shards")


def _indexed_files(index: Path) -> dict[str, list[str]]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ExportError(f"{index} has no weight_map: fetch the file again")
    files: dict[str, list[str]] = {}
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file or Path(file).suffix not in (
                ".safetensors", ".bin"):
            raise ExportError(
                f"{index} puts the tensor {name} into {file!r}, expected a file of the same folder")
        files.setdefault(file, []).append(name)
    return dict(sorted(files.items()))
