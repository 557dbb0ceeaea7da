# SPDX-License-Identifier: Apache-2.0
"""Rows, and runs of scripts/cluster.sh on the fake server. pyarrow and Ray are of an environment of
their own, which pytest is not in."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if "IDEFICS_CLUSTER_ENV" not in os.environ:
    raise pytest.UsageError("IDEFICS_CLUSTER_ENV is not set: run scripts/test.sh -L cluster")
sys.path += map(str, Path(os.environ["IDEFICS_CLUSTER_ENV"]).glob("lib/python3*/site-packages"))

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

FAKE_SERVER = os.environ.get("IDEFICS_FAKE_SERVER") or str(ROOT / "scripts/fake-server")
SLOTS = 4


def processes_of(mark: str) -> dict[int, str]:
    """{pid: command line} of those whose environment names `mark`."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            pass  # gone meanwhile, or not ours
    return {pid: command for pid, command in found.items() if command}


class Job:
    """One run of scripts/cluster.sh with its servers, told from others by its environment."""

    def __init__(self, mark: Path, *arguments: str | Path, **environment: str) -> None:
        self._mark = f"CLUSTER_TEST={mark}"
        self.process = subprocess.Popen(
            [str(ROOT / "scripts/cluster.sh"), *map(str, arguments)], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            env={**os.environ, "IDEFICS_SERVER": FAKE_SERVER, "COG_MAX_CONCURRENCY": str(SLOTS),
                 "CLUSTER_TEST": str(mark), **environment})

    def processes(self, part: str = "") -> list[int]:
        return [pid for pid, command in processes_of(self._mark).items() if part in command]

    def kill(self, part: str = "") -> int:
        """-9 to all whose command line has `part` in it; how many."""
        pids = self.processes(part)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def end(self) -> subprocess.CompletedProcess[str]:
        out, err = self.process.communicate()
        return subprocess.CompletedProcess([], self.process.returncode, out, err)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    jobs = []

    def start_one(*arguments: str | Path, **environment: str) -> Job:
        jobs.append(Job(tmp_path, *arguments, **environment))
        return jobs[-1]

    yield start_one
    for job in jobs:
        job.kill()
        job.process.wait()


def write_rows(path: Path, prompts: list[str], group: int = 16) -> None:
    rows = [{"id": f"row-{number}", "prompt": [prompt]} for number, prompt in enumerate(prompts)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)


def answers(target: Path) -> list[dict]:
    """All of them, in the order of the pieces' names."""
    return pq.read_table(target).to_pylist()
