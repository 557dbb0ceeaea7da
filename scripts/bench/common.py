# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: a running server, a client that notes when each token came, a rival,
tables.

All figures are medians with the smallest and the largest of the rounds behind them; a comparison is
made of rounds that took turns (A B A B …), because these machines change speed from minute to
minute.
"""

import argparse
import base64
import contextlib
import http.client
import io
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ports import free_port

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("IDEFICS_BUILD_DIR") or ROOT / "build/release")
PICTURE = ROOT / "tests/assets/several.jpg"
READ_AT_ONCE = 8 << 20
RIVAL = "transformers"
# What a CPU without AVX-512 would run, of ours and of libtorch and its libraries.
AS_AVX2 = {"IDEFICS_CPU": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
           "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
REPEATS = 3  # in one start of a program, so that a round is not one measurement
# A piece of weights is moved to huge pages in a tenth of it (weights/huge_pages.h).
STILL_SECONDS = 1.5


def middle(run: Callable[[], float]) -> float:
    return statistics.median(run() for _ in range(REPEATS))


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def commit() -> str:
    packed = ROOT / "COMMIT"  # scripts/gpu_kit.sh; its host may have no git
    if packed.exists():
        return packed.read_text()[:7]
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
                          capture_output=True,
                          text=True)
    return head.stdout.strip()


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (f"{cpu}, {os.cpu_count()} CPUs, {memory:.0f} GB, Linux {platform.release()}, load "
            f"{os.getloadavg()[0]:.1f}, commit {commit()}")


@dataclass(frozen=True)
class Answer:
    """One prediction as its reader saw it; seconds since the request was sent."""
    times: list[float]  # of each piece of output
    total: float
    tokens: int
    metrics: dict[str, Any]

    @property
    def first(self) -> float:
        """By the server's clock: pictures fetched and prepared, the prompt's step."""
        return self.metrics["fetch_time"] + self.metrics["time_to_first_token"]

    def gaps(self) -> list[float]:
        return [b - a for a, b in itertools.pairwise(self.times)]

    @property
    def seconds_per_token(self) -> float:
        """Of decode alone, from the first token to the end of the stream: HTTP is in it."""
        return (self.total - self.first) / (self.tokens - 1)


def data_uri(picture: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode()


def new_picture() -> str:
    """Never seen before: one pixel differs."""
    image = Image.open(PICTURE).convert("RGB")
    image.putpixel((random.randrange(image.width), random.randrange(image.height)),
                   (random.randrange(256), ) * 3)
    file = io.BytesIO()
    image.save(file, "PNG")
    return data_uri(file.getvalue()).replace("jpeg", "png")


class Server:
    """idefics-server with a bundle. Use as a context manager."""

    def __init__(self,
                 bundle: Path,
                 *flags: str,
                 env: dict[str, str] | None = None,
                 program: Path | None = None):
        self.port = free_port()
        command = [
            str(program or ROOT / "scripts/idefics-server"), "serve", "--model",
            str(bundle), "--host", "127.0.0.1", "--port",
            str(self.port), *flags
        ]
        path = os.environ.get("BENCH_LOG", os.devnull)
        self._log = open(path, "w")  # noqa: SIM115 (stop() closes it)
        started = time.perf_counter()
        self.process = subprocess.Popen(command,
                                        stdout=self._log,
                                        stderr=self._log,
                                        env={**os.environ, **(env or {})})
        self.seconds_to_ready = self._wait(started)

    def _wait(self, started: float) -> float:
        while True:
            if self.process.poll() is not None:
                sys.exit(
                    f"the server ended with {self.process.returncode}; BENCH_LOG=FILE keeps its "
                    f"lines"
                )
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/health-check")
                status = json.loads(connection.getresponse().read())["status"]
                if status == "READY":
                    return time.perf_counter() - started
                if status not in ("STARTING", "UNKNOWN"):
                    sys.exit(f"the server is {status}")
            time.sleep(0.01)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.terminate()
        self.process.wait()
        self._log.close()

    def peak_rss(self) -> float:
        """GB"""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9

    def _huge_pages(self) -> int:
        """kB of its memory."""
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return int(rollup.split("AnonHugePages:")[1].split()[0])

    def wait_for_huge_pages(self) -> None:
        """Until no more of them come: requests beside weights that still move are slower."""
        before = -1
        while (now := self._huge_pages()) != before:
            before = now
            time.sleep(STILL_SECONDS)

    def ask(self, prompt: Sequence[str], new_tokens: int, **inputs: Any) -> Answer:
        """Runs to exactly `new_tokens` tokens, whatever the model says."""
        body = {
            "input": {
                "prompt": list(prompt), "max_new_tokens": new_tokens, "min_new_tokens": new_tokens,
                **inputs
            }
        }
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=3600)
        start = time.perf_counter()
        connection.request("POST", "/predictions", json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            sys.exit(f"the server answered {response.status}: {response.read()[:300]!r}")
        times: list[float] = []
        event = ""
        for line in response:
            if line.startswith(b"event:"):
                event = line[6:].strip().decode()
            elif line.startswith(b"data:") and event == "output":
                times.append(time.perf_counter() - start)
            elif line.startswith(b"data:") and event == "completed":
                done = json.loads(line[5:])
                if done["status"] != "succeeded":
                    sys.exit(f"a prediction failed: {done.get('error')}")
                metrics = done["metrics"]
                return Answer(times,
                              time.perf_counter() - start, metrics["output_token_count"], metrics)
        sys.exit("the stream ended without a last event")

    def decode_seconds(self, tokens: int) -> float:
        """Of one token."""
        return middle(lambda: self.ask(["Tell me a story"], tokens).seconds_per_token)


class Transformers:
    """The rival in a process of its own (transformers_worker.py), spoken to in lines of JSON."""

    def __init__(self, checkpoint: Path, dtype: str = "bf16", env: dict[str, str] | None = None):
        worker = Path(__file__).with_name("transformers_worker.py")
        self._process = subprocess.Popen(
            [sys.executable, str(worker), str(checkpoint), dtype],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            text=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._jobs, self._answers = self._process.stdin, self._process.stdout
        self.info = self._read()

    def _read(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            sys.exit("transformers_worker.py ended; its message stands above")
        return json.loads(line)

    def run(self, **job: Any) -> dict[str, Any]:
        self._jobs.write(json.dumps(job) + "\n")
        self._jobs.flush()
        return self._read()

    def decode_seconds(self, tokens: int) -> float:
        """Of one token."""
        return middle(lambda: self.run(do="decode", new_tokens=tokens)["seconds"])

    def __enter__(self) -> "Transformers":
        return self

    def __exit__(self, *_: Any) -> None:
        self._jobs.close()
        self._process.wait()


def forget(folder: Path) -> None:
    """Drops the weights from the page cache; what a running program has mapped stays."""
    for path in folder.glob("*.safetensors"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())  # what is not yet on the disk could not be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm(folder: Path) -> None:
    """Reads the weights into the page cache."""
    buffer = memoryview(bytearray(READ_AT_ONCE))
    start = shown = time.perf_counter()
    done = 0
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                done += count
                if time.perf_counter() - shown > 2:
                    shown = time.perf_counter()
                    note(
                        f"reading {folder.name}: {done / 1e9:.1f} GB, "
                        f"{done / 1e9 / (shown - start):.1f} GB/s"
                    )


def alone_in_cache(folder: Path, others: Sequence[Path]) -> None:
    """Before a program starts with `folder`. Two large models do not fit beside each other: the one
    that ran before would make this one read from the disk in the middle of its measurement."""
    for other in others:
        if other.resolve() != folder.resolve():
            forget(other)
    warm(folder)


def read_bandwidth(bundle: Path) -> dict[str, float]:
    """GB/s of this moment: {"anonymous": huge pages, "mapped": pages of the bundle's file}."""
    weights = max(bundle.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    program = BUILD / "scripts/bench/read_bandwidth"
    return json.loads(
        subprocess.run([str(program), str(weights)], check=True, capture_output=True,
                       text=True).stdout)


def decode_bytes(bundle: Path) -> int:
    """Bytes of weights that one decode step reads: all of the decoder but the embedding."""
    total = 0
    for path in bundle.glob("*.safetensors"):
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, entry in header.items():
            if name.startswith("decoder.") and name != "decoder.embed":
                begin, end = entry["data_offsets"]
                total += end - begin
    return total


@dataclass(frozen=True)
class Figure:
    values: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        return f"{self.median:.3g} ({min(self.values):.3g}–{max(self.values):.3g})"


def ratio(a: list[float], b: list[float]) -> Figure:
    """Round by round, so that a slow minute hits both."""
    return Figure([x / y for x, y in zip(a, b, strict=False)])


def seconds_together(clients: int, client: Callable[[], None]) -> float:
    """That so many clients take who begin at one time, each on a thread; ends with the first that
    failed."""
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(client) for _ in range(clients)]
    seconds = time.perf_counter() - start
    for each in running:
        each.result()
    return seconds


def interleaved(rounds: int, runs: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """A B A B …; shows progress on standard error."""
    results: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(rounds):
        for name, run in runs.items():
            results[name].append(run())
            note(f"round {round_number + 1}/{rounds} {name}: {results[name][-1]:.4g}")
    return results


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bundle",
                        type=Path,
                        required=True,
                        action="append",
                        help="bundle folder; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    return parser


def heading(text: str) -> None:
    print(f"\n{text}\n{machine()}\n`{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`\n",
          flush=True)


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    with server:
        server.ask(["Hello"], 8)  # pages of the weights are mapped, threads exist
        server.wait_for_huge_pages()
        yield server
