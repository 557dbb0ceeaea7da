# SPDX-License-Identifier: Apache-2.0
"""What being watched costs the HTTP shell: log lines of answers, traces, a scraped /metrics page.

The fake server is started in turns: plain, with --access-log, with a collector for its spans, and,
where --before names one, another build of it. Each is asked for trivial predictions while a scraper
reads /metrics; the table shows medians with the smallest and largest round, and each one's ratio
to the first of the same round, which is what the machine's changes of speed leave alone. The
server's own CPU time for a prediction stands beside it: it leaves other programs alone, too.

What reads the log, and the collector, would run elsewhere: here lines go to a file, and the
collector drops what it is sent in the kernel. The scraper has the priority that a machine of its
own would give it, where the system lets it (root).

    observing.py [--rounds 5] [--seconds 2] [--before PROGRAM]   (scripts/bench/http's environment)
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from common import free_port, machine, note
from http_speed import BUILD, ask, pixel, shown

CLIENTS = (1, 8)
SCRAPE_S = 0.05
FAKE = str(BUILD / "scripts/fake_server/idefics-fake-server")


def swallow(listener: socket.socket) -> None:
    """Answers every post with 200, unread."""
    rest = bytearray(1 << 20)
    while True:
        peer, _ = listener.accept()
        head = b""
        while got := peer.recv(4096):
            head += got
            while b"\r\n\r\n" in head:
                lines, _, body = head.partition(b"\r\n\r\n")
                length = next(int(line.split(b":")[1]) for line in lines.split(b"\r\n")
                              if line.lower().startswith(b"content-length:"))
                left = length - len(body)
                while left > 0:
                    left -= peer.recv_into(rest, min(left, len(rest)), socket.MSG_TRUNC)
                head = body[length:]
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@dataclass(frozen=True)
class Way:
    program: str = FAKE
    flags: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


@dataclass
class Server:
    port: int
    process: subprocess.Popen[bytes]

    def cpu_s(self) -> float:
        """Of all its threads, by Linux' clock of another process."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def page(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as page:
            return page.read().decode()


@dataclass
class Measured:
    per_second: list[float] = field(default_factory=list)  # for each number of clients
    cpu_us: list[float] = field(default_factory=list)  # of a prediction
    spans: dict[str, int] = field(default_factory=dict)  # by what became of them


@contextlib.contextmanager
def serving(way: Way, slots: int, log: IO[str]) -> Iterator[Server]:
    port = free_port()
    process = subprocess.Popen(
        [way.program, "serve", "--host", "127.0.0.1", "--port", str(port), "--max-concurrency",
         str(slots), *way.flags], env={**os.environ, **dict(way.env)}, stderr=log)
    server = Server(port, process)
    try:
        for _ in range(1000):
            with contextlib.suppress(OSError):
                if "\nidefics_ready" in server.page():
                    break
            time.sleep(0.01)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def scrape(port: int, done: threading.Event, took: list[float]) -> None:
    """Appends the milliseconds of each page, from its request to its last byte."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    while not done.wait(SCRAPE_S):
        begun = time.perf_counter()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            page.read()
        took.append(1e3 * (time.perf_counter() - begun))


def spans_of(page: str) -> dict[str, int]:
    lines = [line for line in page.splitlines() if line.startswith("idefics_trace_spans_total{")]
    return {outcome: int(float(line.split()[-1])) for outcome in ("exported", "dropped")
            for line in lines if f'"{outcome}"' in line}


def one_round(way: Way, seconds: float, body: str, log: IO[str], pages: list[float]) -> Measured:
    measured = Measured()
    for clients in CLIENTS:
        with serving(way, clients, log) as server:
            ask(server, clients, 0.3, "POST", "/predictions", body)  # warm
            done = threading.Event()
            scraper = threading.Thread(target=scrape, args=(server.port, done, pages))
            scraper.start()
            used = server.cpu_s()
            answer = ask(server, clients, seconds, "POST", "/predictions", body)
            used = server.cpu_s() - used
            done.set()
            scraper.join()
            measured.per_second.append(answer["per_second"])
            measured.cpu_us.append(1e6 * used / answer["succeeded"])
            for outcome, count in spans_of(server.page()).items():
                measured.spans[outcome] = measured.spans.get(outcome, 0) + count
    return measured


def table(rounds: dict[str, list[Measured]], first: str) -> str:
    lines = ["| clients | way | predictions/s | ratio to the first | server's CPU, us | ratio |",
             "|---|---|---|---|---|---|"]
    for index, clients in enumerate(CLIENTS):
        for name, own in rounds.items():
            pairs = list(zip(own, rounds[first], strict=True))
            cells = [
                shown([one.per_second[index] for one in own]),
                shown([one.per_second[index] / base.per_second[index] for one, base in pairs]),
                shown([one.cpu_us[index] for one in own]),
                shown([one.cpu_us[index] / base.cpu_us[index] for one, base in pairs])]
            lines.append(f"| {clients} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement")
    parser.add_argument("--before", help="a fake server to compare with, which comes first")
    arguments = parser.parse_args()
    about = machine()
    collector = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=swallow, args=(collector,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{collector.getsockname()[1]}"
    ways = {"plain": Way(), "traces": Way(env=(("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),)),
            "--access-log": Way(flags=("--access-log",))}
    if arguments.before:
        ways = {"before": Way(program=arguments.before), **ways}
    rounds: dict[str, list[Measured]] = {name: [] for name in ways}
    pages: list[float] = []
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w") as log:
        body = Path(folder) / "body.json"
        body.write_text(json.dumps({"input": {"image": pixel(), "text": "x"}}))
        for number in range(arguments.rounds):
            for name, way in ways.items():
                rounds[name].append(one_round(way, arguments.seconds, str(body), log, pages))
                note(f"round {number + 1} of {arguments.rounds}, {name}: {rounds[name][-1]}")
    spans = {outcome: sum(one.spans[outcome] for one in rounds["traces"])
             for outcome in ("exported", "dropped")}
    quantiles = statistics.quantiles(pages, n=100)
    print(f"{about}\n{' '.join(sys.argv)}\n\n{table(rounds, next(iter(ways)))}\n\n"
          f"Spans: {spans}. /metrics, {len(pages)} pages under this load: p50 "
          f"{statistics.median(pages):.2f} ms, p99 {quantiles[98]:.2f} ms, slowest "
          f"{max(pages):.2f} ms")


if __name__ == "__main__":
    main()
