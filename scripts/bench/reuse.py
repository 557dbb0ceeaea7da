# SPDX-License-Identifier: Apache-2.0
"""What is not computed twice: time to the first token of a few-shot prompt and of the fifth turn of
a dialogue with and without the prefix cache, decoding with and without guesses, captions a second.

    reuse.py --bundle BUNDLE [--before PROGRAM] [--rounds 5] [--only shots,dialogue,decode,captions]

Two servers run at once and take turns: one with `--prefix-cache false --no-speculation`, or another
program's (`--before`, the idefics-server of an earlier commit), and one as it is by default.
"""

import contextlib
import functools
import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from common import (
    Figure,
    Server,
    alone_in_cache,
    arguments,
    heading,
    interleaved,
    new_picture,
    ratio,
    running,
    seconds_together,
    table,
)

SHOTS = 8
TURNS = 5
TEXT = "the cat sat on a mat and the dog lay by a red door while it rained all day long"
NAMES = ("before", "now")


def words(count: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(TEXT.split(), k=count))


def few_shot(pictures: Sequence[str], question: int) -> list[str]:
    """Eight pictures with about 40 tokens each, then a question that nobody asked before."""
    prompt = []
    for shot, picture in enumerate(pictures):
        prompt += [picture, f"Question: {words(18, shot)} Answer: {words(14, shot + 100)}"]
    return [*prompt, f"Question: {question} {words(12, question)} Answer:"]


def first_token(server: Server, prompt: Sequence[str]) -> float:
    return server.ask(prompt, 8).first


def in_turns(servers: dict[str, Server], rounds: int,
             run: Callable[[Server], float]) -> dict[str, list[float]]:
    return interleaved(rounds,
                       {name: functools.partial(run, server) for name, server in servers.items()})


def measure_shots(servers: dict[str, Server], rounds: int) -> list[list[object]]:
    questions = itertools.count(1000)
    pictures = [new_picture() for _ in range(SHOTS)]
    for server in servers.values():
        first_token(server, few_shot(pictures, next(questions)))  # the pictures are encoded

    def ask(server: Server) -> float:
        return first_token(server, few_shot(pictures, next(questions)))
    return rows("first token, 8 shots seen before, s", in_turns(servers, rounds, ask))


def dialogue(server: Server, seed: int) -> float:
    """Seconds to the first token of the last turn; each adds some 120 tokens, two a picture."""
    prompt: list[str] = []
    first = 0.0
    for turn in range(TURNS):
        prompt += [new_picture()] if turn % 3 == 0 else []
        prompt.append(f"User: {turn} {seed} {words(60, seed + turn)} Assistant:")
        answer = server.ask(prompt, 24)
        first = answer.first
        prompt.append(words(24, seed + turn))
    return first


def measure_dialogue(servers: dict[str, Server], rounds: int) -> list[list[object]]:
    seeds = itertools.count(0, 50)
    return rows(f"first token of turn {TURNS} of a dialogue, s",
                in_turns(servers, rounds, lambda server: dialogue(server, next(seeds))))


def measure_decode(servers: dict[str, Server], rounds: int) -> list[list[object]]:
    """Text that repeats itself, as the model's own does when it may not end, and random text."""
    seeds = itertools.count()

    def repeated(server: Server) -> float:
        return server.ask([f"Make a list, please. {next(seeds)} A cat, a dog, a"],
                          120).seconds_per_token

    def at_random(server: Server) -> float:
        return server.ask(["Tell me a story"], 120, decoding_strategy="Top P Sampling",
                          temperature=5.0, seed=next(seeds)).seconds_per_token

    return [
        *rows("decode of text that repeats itself, s a token", in_turns(servers, rounds, repeated)),
        *rows("decode of random text, s a token", in_turns(servers, rounds, at_random))
    ]


def captions(server: Server, pictures: Sequence[str], clients: int = 8) -> float:
    """A second. Each client takes the next picture."""
    waiting = list(pictures)
    random.shuffle(waiting)

    def client() -> None:
        with contextlib.suppress(IndexError):
            while True:
                server.ask([waiting.pop(), "Describe the picture."], 12)

    return len(pictures) / seconds_together(clients, client)


def measure_captions(servers: dict[str, Server], rounds: int) -> list[list[object]]:
    pictures = [new_picture() for _ in range(24)]
    measured = in_turns(servers, rounds, lambda server: captions(server, pictures))
    return [["captions a second, 8 clients, 24 pictures again", *map(Figure, measured.values()),
             ratio(measured["now"], measured["before"])]]


def rows(name: str, measured: dict[str, list[float]]) -> list[list[object]]:
    """The ratio: how many times shorter it is now."""
    return [[name, *map(Figure, measured.values()), ratio(measured["before"], measured["now"])]]


MEASURES: dict[str, Callable[[dict[str, Server], int], list[list[object]]]] = {
    "shots": measure_shots, "dialogue": measure_dialogue, "decode": measure_decode,
    "captions": measure_captions
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--before", type=Path, help="program of an earlier commit")
    parser.add_argument("--only", default=",".join(MEASURES))
    options = parser.parse_args()
    heading("What is not computed twice")
    for bundle in options.bundle:
        alone_in_cache(bundle, options.bundle)
        before = Server(bundle, program=options.before) if options.before else Server(
            bundle, "--prefix-cache", "false", "--no-speculation")
        with running(before), running(Server(bundle)) as now:
            servers = dict(zip(NAMES, (before, now), strict=True))
            print(f"\n{bundle.name}\n")
            lines = [line for name in options.only.split(",")
                     for line in MEASURES[name](servers, options.rounds)]
            table(["figure", *NAMES, "ratio"], lines)


if __name__ == "__main__":
    main()
