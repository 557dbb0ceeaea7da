# SPDX-License-Identifier: Apache-2.0
"""Rows of source files: Parquet, JSONL (also .gz) and WebDataset's tar, on any filesystem that
pyarrow knows.

A row is an id and named values; which of them are inputs, the server's schema says. Pictures in
binary columns, in `datasets`' {"bytes", "path"}, or beside the others in a tar become data URIs.
"""

import base64
import io
import itertools
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".tar", ".tar.gz")
PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "ppm")
BATCH_ROWS = 64  # of a Parquet file in memory at once


@dataclass(frozen=True)
class Row:
    id: str
    values: dict[str, Any]
    problem: str | None = None  # why it is no row: the source's fault, told in its answer


def count_rows(files: FileSystem, path: str) -> int:
    if path.endswith(".parquet"):
        return _parquet(files, path).metadata.num_rows
    return sum(1 for _ in (_samples if _is_tar(path) else _lines)(files, path))


def read_rows(files: FileSystem, path: str, first: int, count: int) -> Iterator[Row]:
    """`count` rows from the one numbered `first` (from 0) on."""
    if path.endswith(".parquet"):
        rows = _parquet_rows(files, path, first)
    elif _is_tar(path):
        rows = (_sample_row(key, members)
                for key, members in itertools.islice(_samples(files, path), first, None))
    else:
        rows = (_json_row(text) for text in itertools.islice(_lines(files, path), first, None))
    name = PurePosixPath(path).name
    for number, (own_id, row) in enumerate(itertools.islice(rows, count), first):
        yield Row(f"{name}:{number}" if own_id is None else str(own_id), *row)


def inputs_of(values: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """What a prediction is asked with: the values that the server knows, or the column `input`."""
    whole = values.get("input")
    if isinstance(whole, str):
        whole = json.loads(whole)
    if isinstance(whole, dict):
        values = whole
    return {name: _as_json(value) for name, value in values.items()
            if name in names and value is not None}


# ---- formats; each row is (id or None, (values, problem)) ----

_Rows = Iterator[tuple[Any, tuple[dict[str, Any], str | None]]]


def _is_tar(path: str) -> bool:
    return path.endswith((".tar", ".tar.gz"))


def _parquet(files: FileSystem, path: str) -> pq.ParquetFile:
    return pq.ParquetFile(files.open_input_file(path))


def _parquet_rows(files: FileSystem, path: str, first: int) -> _Rows:
    file = _parquet(files, path)
    groups: list[int] = []
    skip = first
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if skip >= rows and not groups:
            skip -= rows
        else:
            groups.append(group)
    batches = file.iter_batches(batch_size=BATCH_ROWS, row_groups=groups)
    rows = (row for batch in batches for row in batch.to_pylist())
    return ((row.get("id"), (row, None)) for row in itertools.islice(rows, skip, None))


def _lines(files: FileSystem, path: str) -> Iterator[str]:
    with files.open_input_stream(path) as stream:
        for line in io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape"):
            if line.strip():
                yield line


def _json_row(text: str) -> tuple[Any, tuple[dict[str, Any], str | None]]:
    try:
        row = json.loads(text.encode("utf-8", "surrogateescape"))
    except ValueError as error:
        return None, ({}, f"the line is no JSON: {error}")
    if not isinstance(row, dict):
        return None, ({}, "the line is no JSON object")
    return row.get("id"), (row, None)


def _samples(files: FileSystem, path: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """WebDataset's rule: members that follow each other and are called alike up to the first dot
    of their last part are one sample."""
    with files.open_input_stream(path) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        members = ((_key(member.name), member) for member in tar if member.isfile())
        for key, group in itertools.groupby(members, key=lambda pair: pair[0][0]):
            sample = {}
            for (_, extension), member in group:
                content = tar.extractfile(member)
                assert content is not None
                sample[extension] = content.read()
            yield key, sample


def _key(name: str) -> tuple[str, str]:
    folder, _, last = name.rpartition("/")
    stem, _, extension = last.partition(".")
    return (f"{folder}/{stem}" if folder else stem), extension.lower()


def _sample_row(key: str,
                members: dict[str, bytes]) -> tuple[Any, tuple[dict[str, Any], str | None]]:
    values: dict[str, Any] = {}
    for extension, content in members.items():
        if extension in PICTURES:
            values["image"] = content
        elif extension == "txt":
            values["text"] = content.decode("utf-8", "replace").strip()
    if "json" in members:
        _, (described, problem) = _json_row(members["json"].decode("utf-8", "surrogateescape"))
        if problem:
            return key, ({}, problem.replace("line", ".json of the sample"))
        values.update(described)
    return key, (values, None)


def _as_json(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        value = value["bytes"]
    if isinstance(value, bytes):
        # The server looks at the bytes, not at the type.
        return "data:application/octet-stream;base64," + base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return value
