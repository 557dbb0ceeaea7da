# SPDX-License-Identifier: Apache-2.0
"""What is to be done: the source's files cut into pieces, each with the file for its answers.

A piece is answered by whoever comes to it first, and its answers appear at once, under a name that
follows from the piece: so nothing is lost or doubled whatever dies, and who comes again skips what
is there. That rests on everybody cutting alike: `_plan.json` in the target says how it was cut.
"""

import json
import os
import uuid
from dataclasses import dataclass
from tarfile import TarError
from typing import Any

from pyarrow import ArrowInvalid
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

from cluster.rows import SUFFIXES, count_rows

PLAN = "_plan.json"  # readers of a folder of Parquet files pass over names that begin so


class PlanError(Exception):
    pass


@dataclass(frozen=True)
class Piece:
    source: str  # URI or path of a file
    first: int
    count: int
    target: str


@dataclass(frozen=True)
class Plan:
    pieces: list[Piece]

    @property
    def num_rows(self) -> int:
        return sum(piece.count for piece in self.pieces)


def open_place(place: str) -> tuple[FileSystem, str]:
    """A path here, or a URI (s3://, gs://, hdfs://)."""
    if "://" in place:
        return FileSystem.from_uri(place)
    return LocalFileSystem(), os.path.abspath(place)


def exists(place: str) -> bool:
    files, path = open_place(place)
    return files.get_file_info(path).type == FileType.File


def write_at_once(place: str, content: bytes) -> None:
    """Whole or not at all: a new name, then a rename; an object store shows what is closed."""
    files, path = open_place(place)
    local = isinstance(files, LocalFileSystem)
    folder, last = os.path.split(path)
    name = f"{folder}/_{last}.{uuid.uuid4().hex}" if local else path
    with files.open_output_stream(name) as stream:
        stream.write(content)
    if local:
        files.move(name, path)


def make_plan(source: str, target: str, rows_per_piece: int) -> Plan:
    """Cuts what is there now. PlanError: nothing to do, or the target belongs to another plan."""
    found = _source_files(source)
    if not found:
        raise PlanError(f"{source} has no file that ends in {', '.join(SUFFIXES)}")
    files, root = open_place(target)
    files.create_dir(root, recursive=True)
    known = _read(target)
    if known.get("rows_per_piece", rows_per_piece) != rows_per_piece:
        raise PlanError(f"{target} was begun with --rows-per-piece {known['rows_per_piece']}, not"
                        f" {rows_per_piece}: name that number, or another target")
    counts = known.get("files", {})
    pieces = []
    for name, info, place in found:
        entry = counts.setdefault(name, {"bytes": info.size})
        if entry["bytes"] != info.size:
            raise PlanError(f"{place} has {info.size} bytes; {target} was begun when it had "
                            f"{entry['bytes']}: name another target")
        if "rows" not in entry:
            entry["rows"] = _count(place)
        stem = name.replace("%", "%25").replace("/", "%2F")
        pieces += [Piece(place, first, min(rows_per_piece, entry["rows"] - first),
                         f"{target.rstrip('/')}/{stem}-{first:09d}.parquet")
                   for first in range(0, entry["rows"], rows_per_piece)]
    write_at_once(f"{target}/{PLAN}",
                  json.dumps({"rows_per_piece": rows_per_piece, "files": counts}).encode())
    return Plan(pieces)


def _count(place: str) -> int:
    try:
        return count_rows(*open_place(place))
    except (ArrowInvalid, TarError, EOFError, OSError) as error:
        raise PlanError(f"{place} cannot be read: {error}") from error


def _source_files(source: str) -> list[tuple[str, FileInfo, str]]:
    """[(its name below the source, what the file system says of it, its path or URI)], by name."""
    files, path = open_place(source)
    info = files.get_file_info(path)
    if info.type == FileType.NotFound:
        raise PlanError(f"{source} is not there")
    if info.type == FileType.File:
        return [(info.base_name, info, source)]
    found = files.get_file_info(FileSelector(path, recursive=True))
    names = ((file.path[len(path.rstrip("/")) + 1:], file)
             for file in sorted(found, key=lambda file: file.path))
    return [(name, file, f"{source.rstrip('/')}/{name}")
            for name, file in names
            if file.type == FileType.File and file.path.endswith(SUFFIXES)
            and not os.path.basename(file.path).startswith(("_", "."))]


def _read(target: str) -> dict[str, Any]:
    files, path = open_place(f"{target}/{PLAN}")
    if not exists(f"{target}/{PLAN}"):
        return {}
    with files.open_input_stream(path) as stream:
        return json.loads(stream.read())
