# SPDX-License-Identifier: Apache-2.0
"""scripts/gpu_kit.sh: packed, unpacked elsewhere, and run without a GPU as far as that goes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from patience import wait_until

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/gpu_kit"))

from run import Kit, Log, Step, run_step  # noqa: E402

KIT = Kit("cpu", "tiny", "1", Path("/nowhere"))


def run(step: Step, folder: Path, seconds: float) -> tuple[str, str]:
    status = run_step(step, KIT, dict(os.environ), seconds, Log(folder))
    return status, (folder / "kit.log").read_text()


@pytest.mark.parametrize(("command", "status"), [
    (["sh", "-c", "echo seen"], "ok"), (["sh", "-c", "echo seen; exit 3"], "status 3"),
    (["/no/such/program"], "cannot start"),
])
def test_how_a_step_ended_is_told(tmp_path, command, status):
    told, log = run(Step("s", 9, lambda kit: command), tmp_path, 60)
    assert told.startswith(status)
    assert "\nseen\n" in log or status == "cannot start"


def test_a_step_that_outlasts_its_time_is_cut_off_with_its_children_and_what_it_said_is_kept(
        tmp_path):
    script = "echo before; sleep 1000 & echo $! ; wait"
    log = ""
    for seconds in (1, 10, 100):  # one of them is enough to begin
        told, log = run(Step("s", 9, lambda kit: ["sh", "-c", script]), tmp_path, seconds)
        assert told == "cut off"
        if re.search(r"\nbefore\n\d+\n", log):
            break
    assert "\nbefore\n" in log
    stat = Path("/proc") / log.split()[-1] / "stat"

    def is_gone():
        try:
            return "Z" in stat.read_text().split()[2]
        except OSError:
            return True
    wait_until(is_gone, what="the child's end")


def test_the_kit_runs_where_it_is_unpacked(tmp_path):
    pack = subprocess.run([str(ROOT / "scripts/gpu_kit.sh"), "--preset", "release", "kit.tar.xz"],
                          cwd=tmp_path, capture_output=True, text=True)
    assert pack.returncode == 0, pack.stderr
    subprocess.run(["tar", "-xf", "kit.tar.xz"], cwd=tmp_path, check=True)
    tools = tmp_path / "tools"  # of a bare host: no git
    tools.mkdir()
    for tool in Path("/usr/bin").iterdir():
        if not tool.name.startswith("git"):
            (tools / tool.name).symlink_to(tool)
    done = subprocess.run(
        [str(tmp_path / "idefics-gpu-kit/run"), "--device", "cpu", "--shape", "tiny", "--clients",
         "1", "--only", "checkpoint,bundle int8,server int8,throughput", "--scratch",
         str(tmp_path / "scratch")], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": str(tools), "HOME": str(tmp_path), "PYTHON": sys.executable})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 of 8 checks passed" in done.stdout
    steps = (tmp_path / "gpu-kit-results/steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in steps] == ["ok"] * 4
    assert not (tmp_path / "scratch").exists()
