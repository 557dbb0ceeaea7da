# SPDX-License-Identifier: Apache-2.0
"""Source files as rows, and how they are cut into pieces."""

import base64
import gzip
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from cluster.__main__ import array_index
from cluster.plan import PlanError, make_plan, open_place
from cluster.rows import inputs_of, read_rows
from conftest import write_rows

HERE = LocalFileSystem()
NAMES = frozenset({"prompt", "image", "text", "max_new_tokens"})


def write_tar(path: Path, samples: dict[str, dict[str, bytes]]) -> None:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for key, members in samples.items():
            for extension, content in members.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def test_a_parquet_file_is_read_from_any_row_on(tmp_path):
    path = tmp_path / "a.parquet"
    write_rows(path, [str(number) for number in range(100)], group=16)
    for first, count in [(0, 100), (15, 2), (16, 1), (31, 40), (99, 5)]:
        rows = list(read_rows(HERE, str(path), first, count))
        assert [row.values["prompt"] for row in rows] == [
            [str(number)] for number in range(first, min(first + count, 100))]
        assert rows[0].id == f"row-{first}"


def test_pictures_in_binary_columns_become_data_uris(tmp_path):
    rows = [{"image": {"bytes": b"abc", "path": "x.jpg"}, "text": "What?", "other": 1}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (row, ) = read_rows(HERE, str(tmp_path / "a.parquet"), 0, 1)
    inputs = inputs_of(row.values, NAMES)
    assert row.id == "a.parquet:0" and inputs.keys() == {"image", "text"}
    assert base64.b64decode(inputs["image"].partition(",")[2]) == b"abc"


def test_a_line_that_is_no_object_is_a_row_with_a_problem(tmp_path):
    lines = [b'{"id": 7, "prompt": ["a"]}', b"", b"{", b"[1]", b'{"text": "\xff"}',
             b'{"input": {"text": "b"}, "text": "c"}']
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines)))
    rows = list(read_rows(HERE, str(tmp_path / "a.jsonl.gz"), 0, 9))
    assert [row.id for row in rows] == ["7"] + [f"a.jsonl.gz:{number}" for number in (1, 2, 3, 4)]
    assert [row.problem is None for row in rows] == [True, False, False, False, True]
    assert inputs_of(rows[4].values, NAMES) == {"text": "b"}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_members_of_one_name_are_one_sample(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    settings = json.dumps({"max_new_tokens": 9, "license": "x"}).encode()
    write_tar(path, {"x.y/1": {"JPG": b"one", "txt": b"What?\n", "json": settings},
                     "x.y/2": {"png": b"two"}, "x.y/3": {"json": b"{"}})
    rows = list(read_rows(HERE, str(path), 0, 9))
    assert [row.id for row in rows] == ["x.y/1", "x.y/2", "x.y/3"]
    first = inputs_of(rows[0].values, NAMES)
    assert first.pop("image").endswith(base64.b64encode(b"one").decode())
    assert first == {"text": "What?", "max_new_tokens": 9}
    assert rows[2].problem and "JSON" in rows[2].problem


def test_the_pieces_of_a_folder_are_its_rows_once(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    write_rows(source / "deep/a.parquet", ["x"] * 25)
    write_rows(source / "b.parquet", ["x"] * 20)
    write_rows(source / "_hidden.parquet", ["x"] * 3)
    plan = make_plan(str(source), str(target), 10)
    assert [(piece.first, piece.count) for piece in plan.pieces] == [
        (0, 10), (10, 10), (0, 10), (10, 10), (20, 5)]
    assert len({piece.target for piece in plan.pieces}) == 5 and plan.num_rows == 45
    assert make_plan(str(source), str(target), 10) == plan


def test_a_target_of_another_plan_is_refused(tmp_path):
    source, target = tmp_path / "a.parquet", str(tmp_path / "out")
    write_rows(source, ["x"] * 25)
    make_plan(str(source), target, 10)
    with pytest.raises(PlanError, match="--rows-per-piece 10, not 11"):
        make_plan(str(source), target, 11)
    write_rows(source, ["y"] * 26)
    with pytest.raises(PlanError, match="name another target"):
        make_plan(str(source), target, 10)


@pytest.mark.parametrize(("name", "content", "what"), [
    ("a.parquet", b"PAR1nothing", "cannot be read"), ("a.tar", b"x" * 700, "cannot be read"),
    ("a.jsonl.gz", b"no gzip", "cannot be read"), ("a.csv", b"a,b", "no file that ends in"),
])
def test_a_source_that_cannot_be_read_is_named(tmp_path, name, content, what):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(content)
    with pytest.raises(PlanError, match=what):
        make_plan(str(tmp_path / "in"), str(tmp_path / "out"), 10)


def test_an_index_comes_from_the_scheduler():
    assert array_index({}) is None
    assert array_index({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "3",
                        "SLURM_ARRAY_TASK_COUNT": "4"}) == (2, 4)
    assert array_index({"AWS_BATCH_JOB_ARRAY_INDEX": "1",
                        "AWS_BATCH_JOB_ARRAY_SIZE": "9"}) == (1, 9)
    assert array_index({"JOB_COMPLETION_INDEX": "1"}) == (1, None)


def test_a_uri_names_a_filesystem():
    files, path = open_place("file:///tmp/x.parquet")
    assert isinstance(files, LocalFileSystem) and path == "/tmp/x.parquet"
