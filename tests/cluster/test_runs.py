# SPDX-License-Identifier: Apache-2.0
"""scripts/cluster.sh as it is used: rows in are rows out, whoever is killed."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from conftest import ROOT, answers, write_rows
from patience import wait_until

SLOW = "[chunks=4][delay=0.02]"  # so that whoever looks finds something under way
PATIENCE_S = 120  # Ray takes half a minute to start where others use the machine


def rows_of(job_end) -> dict:
    assert job_end.returncode == 0, job_end.stdout + job_end.stderr
    return json.loads(job_end.stdout.splitlines()[-1])


def check_once(target: Path, num_rows: int, *, errors: int = 0) -> None:
    rows = answers(target)
    assert sorted(row["id"] for row in rows) == sorted(f"row-{i}" for i in range(num_rows))
    assert sum(row["error"] is not None for row in rows) == errors


def held(*files: Path) -> list[str]:
    """Directives for equal shares of the rows: the first run, others wait for their files."""
    return [SLOW, *(f"[hold=0,{file}]" for file in files)]


def num_pieces(target: Path) -> int:
    return len(list(target.glob("[!_]*.parquet")))


def test_bad_rows_are_error_rows_and_are_tried_again_on_demand(tmp_path, start):
    source, target = tmp_path / "a.jsonl", tmp_path / "out"
    inputs = [{"prompt": ["good"]}, {"prompt": ["[fail=no luck]x"]}, {"prompt": 5},
              {"image": "http://127.0.0.1:9/x.png", "text": "x"}]
    source.write_text("".join(json.dumps({"id": f"row-{number}", "input": row}) + "\n"
                              for number, row in enumerate(inputs)))
    end = start("shard", source, target).end()
    assert rows_of(end) == {"rows_in": 4, "rows_out": 4, "errors": 3}
    rows = answers(target)
    assert rows[0]["error"] is None and rows[0]["output"]
    assert rows[1]["error"] == "no luck" and "422" in rows[2]["error"]
    assert all(row["output"] is None for row in rows[1:])
    assert "; 1 pieces are answered" in start("shard", source, target).end().stderr
    again = start("shard", source, target, "--retry-failed").end()
    assert "1 of 1 pieces" in again.stderr and rows_of(again)["errors"] == 3
    assert answers(target)[0] == rows[0]


def test_workers_by_index_share_the_pieces(tmp_path, start):
    source, target = tmp_path / "in", tmp_path / "out"
    write_rows(source / "a.parquet", ["x"] * 50)
    ends = [start("shard", source, target, "--rows-per-piece", "10", SLURM_ARRAY_TASK_MIN="1",
                  SLURM_ARRAY_TASK_ID=str(index), SLURM_ARRAY_TASK_COUNT="2") for index in (1, 2)]
    assert sorted(rows_of(job.end())["rows_out"] for job in ends) == [20, 30]
    check_once(target, 50)


def test_a_server_that_is_killed_is_started_again(tmp_path, start):
    source, target = tmp_path / "a.parquet", tmp_path / "out"
    file = tmp_path / "go"
    write_rows(source, [first + "x" for first in held(file) for _ in range(30)])
    job = start("shard", source, target, "--rows-per-piece", "10")
    wait_until(lambda: num_pieces(target) >= 1, PATIENCE_S)
    assert job.kill("fake-server") > 0
    file.touch()
    assert rows_of(job.end()) == {"rows_in": 60, "rows_out": 60, "errors": 0}
    check_once(target, 60)


def test_what_is_killed_goes_on_where_it_was_and_leaves_no_server(tmp_path, start):
    source, target = tmp_path / "a.parquet", tmp_path / "out"
    file = tmp_path / "go"
    write_rows(source, [first + "x" for first in held(file) for _ in range(40)])
    job = start("shard", source, target, "--rows-per-piece", "10")
    wait_until(lambda: num_pieces(target) >= 2, PATIENCE_S)
    assert job.kill("-m cluster") == 1
    wait_until(lambda: not job.processes("fake-server"), PATIENCE_S, "the end of its server")
    done = num_pieces(target)
    assert 2 <= done <= 4
    file.touch()
    end = start("shard", source, target, "--rows-per-piece", "10").end()
    assert f"{done} pieces are answered" in end.stderr
    assert rows_of(end)["rows_out"] == 80
    check_once(target, 80)


def test_a_server_that_cannot_start_is_one_clear_error(tmp_path, start):
    source = tmp_path / "a.parquet"
    write_rows(source, ["x"])
    end = start("shard", source, tmp_path / "out", "--concurrency", "2", "--",
                "--no-such-flag").end()
    assert end.returncode == 1 and "--no-such-flag" in end.stderr
    assert "Traceback" not in end.stderr and num_pieces(tmp_path / "out") == 0


@pytest.fixture
def ray_folder():
    """Ray's sockets lie in it, whose paths must be short."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_rays_actors_servers_and_all_of_it_may_be_killed(tmp_path, start, ray_folder):
    source, target = tmp_path / "a.parquet", tmp_path / "out"
    num_rows, pieces = 640, 32
    stages = [tmp_path / f"stage-{number}" for number in (1, 2, 3)]  # a quarter of the pieces each
    write_rows(source, ["[fail=no]x" if i % 32 == 5 else f"{first}x"
                        for i, first in enumerate(each for each in held(*stages)
                                                  for _ in range(num_rows // 4))])
    command = ("ray", source, target, "--rows-per-piece", str(num_rows // pieces), "--workers", "2",
               "--cpus", "0.5")

    job = start(*command, RAY_TMPDIR=ray_folder)
    wait_until(lambda: num_pieces(target) >= 2, PATIENCE_S, "an answer")
    job.kill("ray::MapWorker")
    killed_at = num_pieces(target)
    stages[0].touch()
    wait_until(lambda: num_pieces(target) >= killed_at + 2, PATIENCE_S, "answers of new actors")
    job.kill("fake-server")
    killed_at = num_pieces(target)
    stages[1].touch()
    wait_until(lambda: num_pieces(target) >= killed_at + 2, PATIENCE_S, "answers of new servers")
    job.kill()  # the driver and the cluster
    job.process.wait()
    done = num_pieces(target)
    assert done <= pieces * 3 // 4
    stages[2].touch()

    end = start(*command, RAY_TMPDIR=ray_folder).end()
    assert f"{done} pieces are answered" in end.stderr
    assert rows_of(end) == {"rows_in": num_rows, "rows_out": num_rows, "errors": 20}
    check_once(target, num_rows, errors=20)


def test_help_says_how():
    done = subprocess.run([str(ROOT / "scripts/cluster.sh"), "shard", "--help"],
                          capture_output=True, text=True, check=True)
    assert "--rows-per-piece" in done.stdout and "scripts/cluster.sh" in done.stdout
