#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Everything that ten minutes with a GPU can tell, in one command on a bare host (README.md).

Steps run in an order in which the next is worth less than the last. Each has a limit of time, each
writes what it sees as it sees it; one that fails is told and the next begins. OUT/kit.log has all
that was printed, OUT/steps.jsonl a line for each step.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "scripts/bench"
WIDTHS = ("bf16", "int8", "int4")
ABANDON_S = 5  # from the polite signal to the other


@dataclass(frozen=True)
class Kit:
    device: str
    shape: str
    clients: str
    folder: Path  # of checkpoint and bundles

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    def bundle(self, width: str) -> Path:
        return self.folder / f"{self.shape}-{width}"

    @property
    def bundles(self) -> list[str]:
        """--bundle arguments of those that could be written, the first width first."""
        return [word for width in WIDTHS if self.bundle(width).exists()
                for word in ("--bundle", str(self.bundle(width)))]


@dataclass(frozen=True)
class Step:
    name: str
    seconds: int  # the limit
    command: Callable[[Kit], list[str]]
    only_cuda: bool = False


def python(script: Path | str, *arguments: str) -> list[str]:
    return [sys.executable, str(script), *arguments]


def make_checkpoint(kit: Kit) -> list[str]:
    return python(ROOT / "scripts/make_checkpoint.py", str(kit.checkpoint), "--shape", kit.shape,
                  "--dtype", "bf16", "--distribution", "normal", "--device", kit.device)


def export(width: str) -> Callable[[Kit], list[str]]:
    return lambda kit: [sys.executable, "-m", "export", str(kit.checkpoint), str(kit.bundle(width)),
                        "--weights", width]


def check_server(width: str) -> Callable[[Kit], list[str]]:
    return lambda kit: python(ROOT / "scripts/gpu_kit/server_check.py", str(kit.bundle(width)),
                              "--device", kit.device)


def bench(script: str, *arguments: str) -> Callable[[Kit], list[str]]:
    return lambda kit: python(BENCH / script, *kit.bundles, *arguments)


def throughput(kit: Kit) -> list[str]:
    return python(BENCH / "throughput.py", *kit.bundles, "--rounds", "1", "--tokens", "30",
                  "--clients", kit.clients)


def throughput_without_graphs(kit: Kit) -> list[str]:
    """Of the last width, whose steps are the shortest beside the host's time to start them."""
    return ["env", "IDEFICS_GRAPH=false", *python(
        BENCH / "throughput.py", *kit.bundles[-2:], "--rounds", "1", "--tokens", "30",
        "--clients", "8,64")]


def ladder(kit: Kit) -> list[str]:
    return python(BENCH / "ladder.py", *kit.bundles, "--checkpoint", str(kit.checkpoint),
                  "--rounds", "2", "--tokens", "32")


STEPS = [
    Step("operators", 180, lambda kit: [str(ROOT / "local/bin/gpu_test"), "--quick"], True),
    Step("checkpoint", 120, make_checkpoint),
    *(Step(f"bundle {width}", 180, export(width)) for width in WIDTHS),
    *(Step(f"server {width}", 120, check_server(width)) for width in WIDTHS),
    Step("timings", 150, lambda kit: [str(ROOT / "local/bin/gpu_test")], True),
    Step("load", 180, bench("load.py", "--rounds", "1")),
    Step("throughput", 300, throughput),
    Step("throughput without graphs", 180, throughput_without_graphs, True),
    Step("captions", 180, bench("captions.py", "--rounds", "1")),
    Step("ladder", 420, ladder),
]


def environment(kit: Kit) -> dict[str, str]:
    """Of every step: the host's libtorch and its CUDA wheels, and the libraries that we brought."""
    spec = find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"run: {sys.executable} has no torch; PYTHON names another Python")
    torch = Path(spec.submodule_search_locations[0])
    folders = [ROOT / "local/lib", *ROOT.glob("local/lib/*/"), ROOT / "local/test-lib",
               ROOT / "lib", torch / "lib", *torch.parent.glob("nvidia/*/lib")]
    runtime = next(ROOT.glob("local/**/libidefics_ops.so"))
    paths = ":".join(map(str, folders))
    return {**os.environ, "LD_LIBRARY_PATH": f"{paths}:{os.environ.get('LD_LIBRARY_PATH', '')}",
            "PYTHONPATH": f"{ROOT / 'scripts'}:{os.environ.get('PYTHONPATH', '')}",
            "PYTHONUNBUFFERED": "1", "IDEFICS_OPS_LIBRARY": str(runtime),
            "IDEFICS_BUILD_DIR": str(ROOT / "build/release"), "IDEFICS_DEVICE": kit.device,
            "BENCH_LOG": str(kit.folder / "server.log")}


class Log:
    """Standard output and OUT/kit.log; lines of a step come from a thread of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / "kit.log", "a", buffering=1)  # noqa: SIM115 (to the end)
        self._steps = folder / "steps.jsonl"

    def say(self, text: str) -> None:
        print(text, flush=True)
        print(text, file=self._file)

    def copy(self, lines: IO[str]) -> None:
        for line in lines:
            self.say(line.rstrip("\n"))

    def step(self, name: str, status: str, seconds: float) -> None:
        with open(self._steps, "a") as file:
            print(json.dumps({"step": name, "status": status, "seconds": round(seconds, 1)}),
                  file=file)


def run_step(step: Step, kit: Kit, variables: dict[str, str], seconds: float, log: Log) -> str:
    command = step.command(kit)
    log.say(f"\n=== {step.name} (at most {seconds:.0f} s): {' '.join(command)}")
    try:
        process = subprocess.Popen(command, env=variables, text=True, start_new_session=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        return f"cannot start: {error}"
    assert process.stdout is not None
    reader = threading.Thread(target=log.copy, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        for end in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(process.pid, end)
            time.sleep(ABANDON_S if end == signal.SIGTERM else 0)
            if process.poll() is not None:
                break
        process.wait()
        return "cut off"
    finally:
        reader.join(ABANDON_S)
    return "ok" if process.returncode == 0 else f"status {process.returncode}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--shape", default="9b", help="of the random model [9b]")
    parser.add_argument("--clients", default="1,8,32,64,128,256", help="of the throughput step")
    parser.add_argument("--out", type=Path, default=Path("gpu-kit-results"))
    parser.add_argument("--scratch", type=Path, default=Path("/dev/shm/idefics-gpu-kit"),
                        help="for checkpoint and bundles: 50 GB for a 9b [/dev/shm/…]")
    parser.add_argument("--only", default="", help="names of steps, separated by commas")
    parser.add_argument("--minutes", type=float, default=30, help="for all steps together [30]")
    parser.add_argument("--keep", action="store_true", help="leave checkpoint and bundles")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> list[Step]:
    names = [name.strip() for name in options.only.split(",") if name.strip()]
    unknown = set(names) - {step.name for step in STEPS}
    if unknown:
        sys.exit(f"run: there is no step {', '.join(sorted(unknown))}; there are "
                 f"{', '.join(step.name for step in STEPS)}")
    return [step for step in STEPS if (not names or step.name in names)
            and (options.device == "cuda" or not step.only_cuda)]


def main() -> None:
    options = parse()
    kit = Kit(options.device, options.shape, options.clients, options.scratch)
    variables, log = environment(kit), Log(options.out)
    kit.folder.mkdir(parents=True, exist_ok=True)
    log.say(f"kit of commit {(ROOT / 'COMMIT').read_text().strip()}, device {kit.device}, "
            f"{os.cpu_count()} CPUs, {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())}")
    end = time.monotonic() + 60 * options.minutes
    failed = []
    for step in chosen(options):
        left = end - time.monotonic()
        begun = time.monotonic()
        status = (run_step(step, kit, variables, min(left, step.seconds), log) if left > 1
                  else "no time left")
        log.say(f"=== {step.name}: {status}, {time.monotonic() - begun:.0f} s")
        log.step(step.name, status, time.monotonic() - begun)
        if status != "ok":
            failed.append(step.name)
    if not options.keep:
        shutil.rmtree(kit.folder, ignore_errors=True)
    log.say(f"\n{len(failed)} steps did not pass{': ' if failed else ''}{', '.join(failed)}; "
            f"send {options.out}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
