# SPDX-License-Identifier: Apache-2.0
"""What being watched costs the HTTP shell: log lines of answers, traces, a scraped /metrics page.

The fake server is started in turns: plain, with --access-log, with a collector for its spans, and,
where --before names one, another build of it. Each is asked for trivial predictions while a scraper
reads /metrics; the table shows medians with the smallest and largest round, and each one's ratio
to the first of the same round, which is what the machine's changes of speed leave alone.

    observing.py [--rounds 5] [--seconds 2] [--before PROGRAM]   (scripts/bench/http's environment)
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from common import machine, note
from http_speed import BUILD, OurTarget, ask, pixel, serving, shown

CLIENTS = (1, 8)
SCRAPE_S = 0.1
FAKE = str(BUILD / "scripts/fake_server/idefics-fake-server")


class Collector(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Way:
    program: str = FAKE
    flags: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


def scrape(port: int, done: threading.Event, took: list[float]) -> None:
    """Appends the milliseconds of each page, from its request to its last byte."""
    while not done.wait(SCRAPE_S):
        begun = time.perf_counter()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            page.read()
        took.append(1e3 * (time.perf_counter() - begun))


def one_round(way: Way, seconds: float, body: str, pages: list[float]) -> list[float]:
    """Predictions per second, for each number of clients."""
    speeds = []
    for clients in CLIENTS:
        with serving(OurTarget((way.program,)), clients, way.flags, way.env) as (server, _):
            ask(server, clients, 0.3, "POST", "/predictions", body)  # warm
            done = threading.Event()
            scraper = threading.Thread(target=scrape, args=(server.port, done, pages))
            scraper.start()
            answer = ask(server, clients, seconds, "POST", "/predictions", body)
            done.set()
            scraper.join()
            speeds.append(answer["per_second"])
    return speeds


def table(rounds: dict[str, list[list[float]]], first: str) -> str:
    lines = ["| clients | way | predictions/s | ratio to the first |", "|---|---|---|---|"]
    for index, clients in enumerate(CLIENTS):
        base = [speeds[index] for speeds in rounds[first]]
        for name, all_speeds in rounds.items():
            own = [speeds[index] for speeds in all_speeds]
            ratios = [a / b for a, b in zip(own, base, strict=True)]
            lines.append(f"| {clients} | {name} | {shown(own)} | {shown(ratios)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement")
    parser.add_argument("--before", help="a fake server to compare with, which comes first")
    arguments = parser.parse_args()
    about = machine()
    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    traced = (("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}"),)
    ways = {"plain": Way(), "--access-log": Way(flags=("--access-log",)),
            "traces": Way(env=traced)}
    if arguments.before:
        ways = {"before": Way(program=arguments.before), **ways}
    rounds: dict[str, list[list[float]]] = {name: [] for name in ways}
    pages: list[float] = []
    with tempfile.NamedTemporaryFile("w", suffix=".json") as body:
        json.dump({"input": {"image": pixel(), "text": "x"}}, body)
        body.flush()
        for number in range(arguments.rounds):
            for name, way in ways.items():
                rounds[name].append(one_round(way, arguments.seconds, body.name, pages))
                note(f"round {number + 1} of {arguments.rounds}, {name}: {rounds[name][-1]}")
    quantiles = statistics.quantiles(pages, n=100)
    print(f"{about}\n{' '.join(sys.argv)}\n\n{table(rounds, next(iter(ways)))}\n\n"
          f"/metrics, {len(pages)} pages under this load: p50 {statistics.median(pages):.2f} ms, "
          f"p99 {quantiles[98]:.2f} ms, slowest {max(pages):.2f} ms")


if __name__ == "__main__":
    main()
