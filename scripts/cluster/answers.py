# SPDX-License-Identifier: Apache-2.0
"""The answers to a piece: one Parquet file, one row for each of its rows, in their order."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.plan import Piece, exists, open_place, write_at_once

SCHEMA = pa.schema([
    pa.field("id", pa.string(), nullable=False),
    pa.field("output", pa.string()),  # null where there is an error
    pa.field("error", pa.string()),
    pa.field("finish_reason", pa.string()),
    pa.field("input_tokens", pa.int64()),
    pa.field("output_tokens", pa.int64()),
    pa.field("model", pa.string()),
    pa.field("revision", pa.string()),  # of the bundle: its manifest's sha256
])


@dataclass(frozen=True)
class Answer:
    id: str
    output: str | None = None
    error: str | None = None
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    model: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Count:
    rows: int = 0
    errors: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.rows + other.rows, self.errors + other.errors)


def write(piece: Piece, answers: Sequence[Answer]) -> None:
    table = pa.Table.from_pylist([asdict(answer) for answer in answers], SCHEMA)
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    write_at_once(piece.target, buffer.getvalue())


def read(piece: Piece) -> list[Answer]:
    files, path = open_place(piece.target)
    with files.open_input_file(path) as file:
        return [Answer(**row) for row in pq.read_table(file).to_pylist()]


def count(piece: Piece) -> Count | None:
    """None: not answered yet."""
    if not exists(piece.target):
        return None
    files, path = open_place(piece.target)
    with files.open_input_file(path) as file:
        errors = pq.read_table(file, columns=["error"])["error"]
    return Count(len(errors), len(errors) - errors.null_count)
