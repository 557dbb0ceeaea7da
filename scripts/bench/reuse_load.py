# SPDX-License-Identifier: Apache-2.0
"""A picture of memory and reuse under a mixed load: what of the KV arena runs and what is cached,
how much of prompts and pictures was there already, who waits.

    reuse_load.py --bundle BUNDLE --out CHART.png [--seconds 80] [--kv-tokens 6000]

Clients come in four waves, each of a quarter of the time, and stay: captions of few pictures;
few-shot questions with common examples; dialogues; long answers, for which the arena is too small.
The server's /metrics are read twice a second. Needs matplotlib (requirements-plot.txt).
"""

import argparse
import contextlib
import itertools
import random
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import drawing
from common import Server, heading, new_picture, note, running
from reuse import SHOTS, TURNS, few_shot, words

SAMPLE_S = 0.5
SMOOTH_S = 4.0  # over which shares are taken
PICTURES = 24


@dataclass(frozen=True)
class Wave:
    name: str
    clients: int
    talk: Callable[[Server, int], Iterator[None]]


def captions(server: Server, seed: int) -> Iterator[None]:
    chosen = random.Random(seed)
    while True:
        server.ask([chosen.choice(SHOWN), "Say in a few words what this picture shows."], 12)
        yield


def questions(server: Server, seed: int) -> Iterator[None]:
    examples = SHOWN[seed % 2 * SHOTS:][:SHOTS]
    for number in itertools.count():
        server.ask(few_shot(examples, seed * 1000 + number), 8)
        yield


def dialogues(server: Server, seed: int) -> Iterator[None]:
    for number in itertools.count():
        prompt: list[str] = []
        for turn in range(TURNS):
            prompt += [new_picture()] if turn == 0 else []
            prompt.append(f"User: {words(30, seed * 1000 + number * TURNS + turn)} Assistant:")
            server.ask(prompt, 16)
            yield
            prompt.append(words(16, turn))


def stories(server: Server, seed: int) -> Iterator[None]:
    for number in itertools.count():
        server.ask([f"Story {seed} {number}: {words(40, seed * 1000 + number)}"], 400)
        yield


SHOWN = [new_picture() for _ in range(PICTURES)]
WAVES = (Wave("captions", 6, captions), Wave("few-shot questions", 6, questions),
         Wave("dialogues", 6, dialogues), Wave("long answers", 10, stories))


class Samples:
    """The server's counters and gauges over time."""

    def __init__(self, server: Server):
        self._url = f"http://127.0.0.1:{server.port}/metrics"
        self._began = time.perf_counter()
        self.times: list[float] = []
        self._values: list[dict[str, float]] = []

    def take(self) -> None:
        with urllib.request.urlopen(self._url, timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("idefics_"))
        self.times.append(time.perf_counter() - self._began)
        self._values.append({name.split("{")[0]: float(value) for name, value in pairs})

    def of(self, name: str) -> list[float]:
        return [values[f"idefics_{name}"] for values in self._values]

    def share(self, part: str, whole: str) -> list[float]:
        """Percent, over the last seconds."""
        parts, wholes = self.of(part), self.of(whole)
        back = round(SMOOTH_S / SAMPLE_S)
        shares = []
        for i, (here, total) in enumerate(zip(parts, wholes, strict=True)):
            before = max(0, i - back)
            grown = total - wholes[before]
            shares.append(100 * (here - parts[before]) / grown if grown else float("nan"))
        return shares


def run(server: Server, seconds: float) -> Samples:
    over = threading.Event()

    def client(wave: Wave, seed: int) -> None:
        with contextlib.suppress(OSError, SystemExit):  # the server stops in the midst of an answer
            for _ in wave.talk(server, seed):
                if over.is_set():
                    return

    samples = Samples(server)
    threads: list[threading.Thread] = []
    for number, wave in enumerate(WAVES):
        note(f"{wave.clients} clients of {wave.name}")
        for seed in range(wave.clients):
            threads.append(threading.Thread(target=client, args=(wave, seed), daemon=True))
            threads[-1].start()
        while time.perf_counter() - samples._began < seconds * (number + 1) / len(WAVES):
            samples.take()
            time.sleep(SAMPLE_S)
    over.set()
    for thread in threads:
        thread.join()
    return samples


def draw(samples: Samples, seconds: float, path: Path) -> None:
    figure, (memory, reuse, requests) = drawing.panels(
        ["KV cache, tokens", "Found there already, %", "Requests"])
    x = samples.times
    capacity = samples.of("kv_cache_capacity_tokens")
    used = [ratio * all_of for ratio, all_of in
            zip(samples.of("kv_cache_usage_ratio"), capacity, strict=True)]
    memory.stackplot(x, used, samples.of("prefix_cache_tokens"),
                     labels=["of running requests", "cached, free for who needs it"],
                     colors=[drawing.BLUE, drawing.GREY])
    memory.plot(x, capacity, color="black", linewidth=1, linestyle=":", label="all there are")
    reuse.plot(x, samples.share("cached_prompt_tokens_total", "prompt_tokens_total"),
               color=drawing.BLUE, label="tokens of prompts")
    reuse.plot(x, samples.share("image_cache_hits_total", "image_cache_queries_total"),
               color=drawing.ORANGE, label="pictures")
    reuse.set_ylim(0, 100)
    requests.plot(x, samples.of("requests_running"), color=drawing.GREEN, label="running")
    requests.plot(x, samples.of("requests_waiting"), color=drawing.RED, label="waiting")
    requests.plot(x, samples.of("preemptions_total"), color="black", linestyle=":",
                  label="preempted so far")
    requests.set_xlabel("seconds")
    for panel in (memory, reuse, requests):
        panel.set_xlim(0, seconds)
        drawing.legend(panel)
        for number, wave in enumerate(WAVES):
            at = seconds * number / len(WAVES)
            panel.axvline(at, color=drawing.GREY, linewidth=0.8)
            if panel is reuse:
                panel.annotate(f"+ {wave.clients} clients: {wave.name}", (at, 0), (4, 4),
                               fontsize=8, textcoords="offset points")
    drawing.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=80)
    parser.add_argument("--kv-tokens", type=int, default=6000)
    options = parser.parse_args()
    heading("Memory and reuse over a mixed load")
    flags = ["--kv-tokens", str(options.kv_tokens), "--max-concurrency", "64"]
    with running(Server(options.bundle, *flags)) as server:
        samples = run(server, options.seconds)
    draw(samples, options.seconds, options.out)
    for name in ("prompt_tokens_total", "cached_prompt_tokens_total", "image_cache_queries_total",
                 "image_cache_hits_total", "preemptions_total", "generation_tokens_total"):
        print(f"{name} {samples.of(name)[-1]:.0f}")


if __name__ == "__main__":
    main()
