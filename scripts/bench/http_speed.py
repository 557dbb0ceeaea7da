# SPDX-License-Identifier: Apache-2.0
"""Speed of the HTTP shell: our fake server against the real coglet with the same fake engine in
Python.

Both are started in turns (ours, coglet, ours, coglet …) and asked by one small C++ client over
keep-alive connections for a trivial prediction: a picture of one pixel and the text "x". A round
gives one figure; the table shows medians, the smallest and largest round, and the ratio of the
medians.

    scripts/bench/http [--rounds 5] [--seconds 3]
"""

import argparse
import base64
import contextlib
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("IDEFICS_BUILD_DIR") or ROOT / "build/release")
sys.path[:0] = [str(ROOT / folder) for folder in ("tests/conformance", "tests/timing", "scripts")]

from cases import Options  # noqa: E402
from targets import CogletTarget, OurTarget, Running  # noqa: E402

CLIENTS = (1, 8, 32)
Target = OurTarget | CogletTarget
Figures = dict[str, float]


def pixel() -> str:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(
            ">I", zlib.crc32(kind + data))
    png = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
           + chunk(b"IDAT", zlib.compress(b"\0\1\2\3")) + chunk(b"IEND", b""))
    return "data:image/png;base64," + base64.b64encode(png).decode()


@contextlib.contextmanager
def serving(target: Target, slots: int, flags: tuple[str, ...] = (),
            env: tuple[tuple[str, str], ...] = ()) -> Iterator[tuple[Running, float]]:
    """A READY server with that many slots, and the seconds to its first READY answer."""
    begun = time.perf_counter()
    server = target.start(Options(slots=slots, ready=False, fresh=True, flags=flags, env=env))
    try:
        while (server.listening() or {}).get("status") != "READY":
            time.sleep(0.0005)
        yield server, time.perf_counter() - begun
    finally:
        server.kill()


class Listening(Protocol):
    port: int


def ask(server: Listening, clients: int, seconds: float, method: str, path: str,
        *body: str) -> dict[str, float]:
    command = [
        str(BUILD / "scripts/bench/http_client"),
        str(server.port),
        str(clients),
        str(seconds), method, path, *body
    ]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def one_round(target: Target, seconds: float, body: str) -> Figures:
    figures: Figures = {}
    for clients in CLIENTS:
        with serving(target, clients) as (server, start_s):
            ask(server, clients, 0.5, "POST", "/predictions", body)  # warm
            answer = ask(server, clients, seconds, "POST", "/predictions", body)
            figures[f"predictions/s, {clients} clients"] = answer["per_second"]
            if clients == 1:
                figures["start to READY, ms"] = start_s * 1e3
                figures["round trip p50, ms"] = answer["p50_us"] / 1e3
                figures["round trip p95, ms"] = answer["p95_us"] / 1e3
                health = ask(server, 1, 1, "GET", "/health-check")
                figures["health-check p50, ms"] = health["p50_us"] / 1e3
    return figures


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g}–{max(values):.3g})"


def table(rounds: dict[str, list[Figures]]) -> str:
    lines = ["| figure | ours | coglet | ratio of medians |", "|---|---|---|---|"]
    for name in rounds["ours"][0]:
        ours, theirs = ([figures[name] for figures in rounds[who]] for who in ("ours", "coglet"))
        medians = statistics.median(ours), statistics.median(theirs)
        better = medians[0] / medians[1] if "/s" in name else medians[1] / medians[0]
        lines.append(f"| {name} | {shown(ours)} | {shown(theirs)} | {better:.1f} × better |")
    return "\n".join(lines)


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    return f"{cpu}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at the start"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    arguments = parser.parse_args()
    about = machine()
    rounds: dict[str, list[Figures]] = {"ours": [], "coglet": []}
    targets: dict[str, Target] = {"ours": OurTarget(), "coglet": CogletTarget()}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as body:
        json.dump({"input": {"image": pixel(), "text": "x"}}, body)
        body.flush()
        for number in range(arguments.rounds):
            for who, target in targets.items():
                rounds[who].append(one_round(target, arguments.seconds, body.name))
                print(f"round {number + 1} of {arguments.rounds}, {who}: {rounds[who][-1]}",
                      file=sys.stderr)
    print(f"{about}\n{' '.join(sys.argv)}\n\n{table(rounds)}")


if __name__ == "__main__":
    main()
