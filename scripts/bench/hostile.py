# SPDX-License-Identifier: Apache-2.0
"""What a hostile client costs a well-behaved one: round trips of a small prediction (fake engine)
and of /health-check, quiet and beside the hostile client in turns, all on one server.

    scripts/bench/hostile [--rounds 5] [--seconds 3] [--connections 1000] [--megabytes 10]

The hostile client (hostile_client.cc) has its connections in four kinds: half-sent heads,
half-sent bodies, readers of nothing, floods of bad requests. The well-behaved one is alone and asks
one thing at a time. The hostile one has only the processors' idle time. The ratio is of a round's
two turns, so that a slow minute hits both.
"""

import argparse
import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

from common import BUILD, ROOT, Figure, machine, note, ratio, table

from ports import free_port

FAKE_SERVER = os.environ.get("IDEFICS_FAKE_SERVER") or str(ROOT / "scripts/fake-server")
BENCH = BUILD / "scripts/bench"
SETTLE_S = 1.0
ASKED = {"predictions": ("POST", "/predictions"), "health-check": ("GET", "/health-check")}
QUANTILES = ("p50", "p99")


def start() -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    process = subprocess.Popen([FAKE_SERVER, "--host", "127.0.0.1", "--port", str(port),
                                "--max-concurrency", "8", "--log-level", "error"])
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except OSError:
            if process.poll() is not None:
                sys.exit("the server ended at its start")
            time.sleep(0.01)


def ask(port: int, seconds: float, body: str) -> dict[str, float]:
    """Milliseconds."""
    figures: dict[str, float] = {}
    for name, (method, path) in ASKED.items():
        command = [str(BENCH / "http_client"), str(port), "1", str(seconds), method, path]
        command += [body] if method == "POST" else []
        answer = json.loads(
            subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        if set(answer["statuses"]) != {"200"}:
            sys.exit(f"{name}: {answer['statuses']}")
        for quantile in QUANTILES:
            figures[f"{name}, {quantile}"] = answer[f"{quantile}_us"] / 1e3
    return figures


def beside(port: int, options: argparse.Namespace, body: str) -> dict[str, float]:
    seconds = SETTLE_S + len(ASKED) * options.seconds + 1
    command = [str(BENCH / "hostile_client"), str(port), str(options.connections),
               str(options.megabytes), str(seconds)]
    # Elsewhere it would not take this machine's processors: the server and who asks come first.
    idle = functools.partial(os.sched_setscheduler, 0, os.SCHED_IDLE, os.sched_param(0))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=idle) as hostile:
        time.sleep(SETTLE_S)
        figures = ask(port, options.seconds, body)
        assert hostile.stdout is not None
        attack = json.loads(hostile.stdout.read())
    figures["hostile MB/s"] = attack["bytes"] / 1e6 / seconds
    figures["hostile connections made"] = attack["made"]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--megabytes", type=float, default=10, help="a second")
    options = parser.parse_args()
    about = machine()
    rounds: dict[str, list[dict[str, float]]] = {"quiet": [], "beside": []}
    process, port = start()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as body:
        json.dump({"input": {"prompt": ["x"]}}, body)
        body.flush()
        ask(port, 0.5, body.name)  # warm
        for number in range(options.rounds):
            rounds["quiet"].append(ask(port, options.seconds, body.name))
            rounds["beside"].append(beside(port, options, body.name))
            time.sleep(SETTLE_S)
            note(f"round {number + 1}/{options.rounds}: " +
                 json.dumps({name: figures[-1] for name, figures in rounds.items()}))
    process.terminate()
    process.wait()
    print(f"{about}\n{' '.join(sys.argv)}\n")
    rows = []
    for name in rounds["quiet"][0]:
        quiet, near = ([figures[name] for figures in rounds[who]] for who in ("quiet", "beside"))
        rows.append([f"{name}, ms", Figure(quiet), Figure(near), ratio(near, quiet)])
    table(["", "quiet", "beside", "ratio"], rows)
    sent = Figure([figures["hostile MB/s"] for figures in rounds["beside"]])
    made = Figure([figures["hostile connections made"] for figures in rounds["beside"]])
    print(f"\nThe hostile client sent {sent} MB/s and made {made} connections in a turn.")


if __name__ == "__main__":
    main()
