# SPDX-License-Identifier: Apache-2.0
"""What being watched costs the HTTP shell: log lines of answers, traces, a scraped /metrics page.

The fake server runs four times: plain, with --access-log, with a collector for its spans, and,
where --before names one, another build of it. In short turns each is asked for trivial predictions
while a scraper reads /metrics; the table shows medians and quartiles, and each one's ratio to the
first in the same round, which is what the machine's changes of speed leave alone. The server's own
CPU time for a prediction stands beside it: it leaves other programs alone, too.

What reads the log, and the collector, would run elsewhere: here lines go to a file, and the
collector drops what it is sent in the kernel. The scraper has the priority that a machine of its
own would give it, where the system lets it (root).

    observing.py [--rounds 40] [--seconds 0.3] [--before PROGRAM]    (as scripts/bench/http)
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

from common import machine, note
from http_speed import BUILD, ask, pixel

from ports import free_port

CLIENTS = (1, 8)
SCRAPE_S = 0.05
FAKE = str(BUILD / "scripts/fake_server/idefics-fake-server")


def swallow(listener: socket.socket) -> None:
    """Answers every post with 200, unread: its body is thrown away within one system call."""
    rest = bytearray(1 << 20)
    unread = socket.MSG_TRUNC | socket.MSG_WAITALL
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
                    left -= peer.recv_into(rest, min(left, len(rest)), unread)
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
    """Of one way and number of clients; a value for each turn."""

    per_second: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)  # of a prediction


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


def turns(ways: dict[str, Way], clients: int, rounds: int, seconds: float, body: str,
          log: IO[str], pages: list[float]) -> tuple[dict[str, Measured], dict[str, int]]:
    """What each way has measured, and what became of all spans. All servers are there at once: who
    is not asked takes no processor, and turns are short, so that they share the machine's moods."""
    measured = {name: Measured() for name in ways}
    spans = {"exported": 0, "dropped": 0}
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(serving(way, clients, log))
                   for name, way in ways.items()}
        for server in servers.values():
            ask(server, clients, 0.5, "POST", "/predictions", body)  # warm
        order = list(servers.items())
        for _ in range(rounds):
            order.append(order.pop(0))  # what comes after what costs the same for all
            for name, server in order:
                done = threading.Event()
                scraper = threading.Thread(target=scrape, args=(server.port, done, pages))
                scraper.start()
                used = server.cpu_s()
                answer = ask(server, clients, seconds, "POST", "/predictions", body)
                used = server.cpu_s() - used
                done.set()
                scraper.join()
                measured[name].per_second.append(answer["per_second"])
                measured[name].cpu_us.append(1e6 * used / answer["succeeded"])
        for server in servers.values():
            for outcome, count in spans_of(server.page()).items():
                spans[outcome] += count
    return measured, spans


def quartiles(values: list[float]) -> str:
    """Median and quartiles."""
    low, median, high = statistics.quantiles(values, n=4)
    return f"{median:.3g} ({low:.3g}–{high:.3g})"


def rows(clients: int, measured: dict[str, Measured]) -> list[str]:
    base = next(iter(measured.values()))
    lines = []
    for name, own in measured.items():
        pairs = [(own.per_second, base.per_second), (own.cpu_us, base.cpu_us)]
        cells = [cell for values, first in pairs
                 for cell in (quartiles(values),
                              quartiles([a / b for a, b in zip(values, first, strict=True)]))]
        lines.append(f"| {clients} | {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each turn")
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
    pages: list[float] = []
    lines = ["| clients | way | predictions/s | ratio to the first | server's CPU, us | ratio |",
             "|---|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w") as log:
        body = Path(folder) / "body.json"
        body.write_text(json.dumps({"input": {"image": pixel(), "text": "x"}}))
        for clients in CLIENTS:
            measured, spans = turns(ways, clients, arguments.rounds, arguments.seconds, str(body),
                                    log, pages)
            lines += rows(clients, measured)
            note(f"{clients} clients: spans {spans}")
    p99 = statistics.quantiles(pages, n=100)[98]
    table = "\n".join(lines)
    print(f"{about}\n{' '.join(sys.argv)}\n\n{table}\n\n/metrics, {len(pages)} pages under this "
          f"load: p50 {statistics.median(pages):.2f} ms, p99 {p99:.2f} ms, slowest "
          f"{max(pages):.2f} ms")


if __name__ == "__main__":
    main()
