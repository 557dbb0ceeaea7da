# SPDX-License-Identifier: Apache-2.0
"""OpenAI's API of this server against llama.cpp's: median latency of whole answers and requests a
second with 1 … N clients in a closed loop, in turns, by one client program.

    openai_rival.py --bundle weights/demo's bundle [--clients 1,8,32] [--rounds 5] [--requests 20]

The rival's model has random weights, the demo's shape and vocabulary, 16-bit weights here and 8-bit
ones there: it shows what the servers cost, not the models. Questions are text and differ, so that
nobody has one ready; both write the same number of tokens, greedily, with eight places.
"""

import json
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import llama_peer
from common import (
    ROOT,
    Figure,
    Server,
    arguments,
    heading,
    note,
    ratio,
    seconds_together,
    table,
)

from ports import free_port

PLACES = 8
WAIT_S = 120
NUMBERS = count()


class Load(NamedTuple):
    rate: float  # requests a second
    p50: float   # seconds


class Rival:
    """llama-server. Use as a context manager."""

    def __init__(self, model: Path):
        self.port = free_port()
        self._process = subprocess.Popen(
            [llama_peer.programs() / "llama-server", "-m", model, "--host", "127.0.0.1", "--port",
             str(self.port), "--parallel", str(PLACES), "--ctx-size", str(PLACES * 1024)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + WAIT_S
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
                return
            except (OSError, urllib.error.HTTPError):
                if self._process.poll() is not None or time.monotonic() > end:
                    sys.exit("llama-server did not start")
                time.sleep(0.05)

    def __enter__(self) -> "Rival":
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.terminate()
        self._process.wait()


def body(tokens: int) -> str:
    question = f"What is {next(NUMBERS) % 100} and {next(NUMBERS) % 100}?"
    return json.dumps({"messages": [{"role": "user", "content": question}], "temperature": 0,
                       "max_tokens": tokens, "ignore_eos": True})


def run(port: int, clients: int, requests: int, tokens: int) -> Load:
    seconds: list[float] = []

    def client() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=600)
        for _ in range(requests):
            begin = time.perf_counter()
            connection.request("POST", "/v1/chat/completions", body(tokens),
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
            seconds.append(time.perf_counter() - begin)
            if response.status != 200 or answer["usage"]["completion_tokens"] != tokens:
                note(f"port {port} answered {response.status}: {str(answer)[:300]}")
        connection.close()

    took = seconds_together(clients, client)
    return Load(clients * requests / took, statistics.median(seconds))


def rival_model() -> Path:
    """One that its own 32-number blocks can hold: the demo's width is a multiple of 32."""
    demo = ROOT / "weights/demo"
    config = json.loads((demo / "config.json").read_text())
    shape = llama_peer.Shape(2 * config["num_hidden_layers"], config["hidden_size"],
                             config["intermediate_size"], config["num_attention_heads"],
                             config["vocab_size"] + config["additional_vocab_size"])
    return llama_peer.model("Q8_0", shape, demo / "tokenizer.model")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--requests", type=int, default=20, help="of each client, in a round")
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args()
    heading("OpenAI's API: this server and llama.cpp's (llama-cpp-python 0.3.36)")
    rows: list[list[object]] = []
    with Rival(rival_model()) as rival, Server(options.bundle[0], "--max-concurrency", str(PLACES),
                                               "--openai-queue", "1000") as server:
        for clients in map(int, options.clients.split(",")):
            loads: dict[int, list[Load]] = {server.port: [], rival.port: []}
            for number in range(options.rounds):
                for port, measured in loads.items():
                    measured.append(run(port, clients, options.requests, options.tokens))
                    note(f"round {number + 1}/{options.rounds}, {clients} clients: {measured[-1]}")
            ours, theirs = loads.values()
            for what, a, b, gain in (
                ("p50, ms", [x.p50 * 1e3 for x in ours], [x.p50 * 1e3 for x in theirs],
                 ratio([x.p50 for x in theirs], [x.p50 for x in ours])),
                ("requests/s", [x.rate for x in ours], [x.rate for x in theirs],
                 ratio([x.rate for x in ours], [x.rate for x in theirs]))):
                rows.append([f"{what}, {clients} clients", Figure(a), Figure(b), gain])
    table(["", "ours", "llama.cpp", "ours is better by"], rows)


if __name__ == "__main__":
    main()
