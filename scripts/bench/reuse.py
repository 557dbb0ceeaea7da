# SPDX-License-Identifier: Apache-2.0
"""What is not computed twice: time to the first token of a few-shot prompt and of the fifth turn of
a dialogue, seen before and not; decoding with and without guesses; captions a second; users with
many pictures at once.

    reuse.py --bundle BUNDLE [--before PROGRAM] [--rounds 5] [--only shots,dialogue,decode,…]

The first two ask one server, whose unseen prompts are the seen ones behind another first sentence;
their pictures are encoded in both cases. For the others two servers take turns: one with
`--prefix-cache false --no-speculation`, or another program's (`--before`, the idefics-server of an
earlier commit), and one as it is by default.
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
USERS, USERS_SHOTS = 4, 32
CAPTIONED = 12  # pictures
TURNS = 5
TEXT = "the cat sat on a mat and the dog lay by a red door while it rained all day long"
NAMES = ("without", "with")


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
    server = servers["with"]
    numbers = itertools.count(1000)
    pictures = [new_picture() for _ in range(SHOTS)]
    first_token(server, few_shot(pictures, next(numbers)))  # the pictures are encoded
    opening = ""

    def unseen() -> float:
        nonlocal opening
        opening = f"Set {next(numbers)}."
        return first_token(server, [opening, *few_shot(pictures, next(numbers))])

    def seen() -> float:
        return first_token(server, [opening, *few_shot(pictures, next(numbers))])

    return rows("first token, 8 shots, s",
                interleaved(rounds, dict(zip(NAMES, (unseen, seen), strict=True))))


def dialogue(server: Server, number: int) -> tuple[float, list[str]]:
    """Seconds to the first token of the last turn, and its prompt; a turn adds some 120 tokens, two
    of them a picture."""
    prompt: list[str] = []
    for turn in range(TURNS):
        prompt += [new_picture()] if turn % 3 == 0 else []
        prompt.append(f"User: {turn} {number} {words(60, number * TURNS + turn)} Assistant:")
        first = first_token(server, prompt)
        asked = list(prompt)
        prompt.append(words(24, number + turn))
    return first, asked


def measure_dialogue(servers: dict[str, Server], rounds: int) -> list[list[object]]:
    server = servers["with"]
    numbers = itertools.count()
    asked: list[str] = []

    def seen() -> float:
        nonlocal asked
        first, asked = dialogue(server, next(numbers))
        return first

    def unseen() -> float:
        return first_token(server, [f"Another {next(numbers)}.", *asked])

    measured = interleaved(rounds, dict(zip(reversed(NAMES), (seen, unseen), strict=True)))
    return rows(f"first token of turn {TURNS} of a dialogue, s",
                {name: measured[name] for name in NAMES})


def measure_decode(servers: dict[str, Server], rounds: int) -> list[list[object]]:
    """Greedy text, sampled text and noise: of a checkpoint made with --phrases lists, dialogues and
    noise."""
    seeds = itertools.count()

    def tell(server: Server, **sampling: object) -> float:
        return server.ask([f"Tell me more, please. {next(seeds)}"], 200,
                          **sampling).seconds_per_token

    def sampled(server: Server, temperature: float) -> float:
        return tell(server, decoding_strategy="Top P Sampling", temperature=temperature, top_p=0.99,
                    seed=next(seeds))

    texts: dict[str, Callable[[Server], float]] = {
        "greedy (a list)": tell, "sampled (a dialogue)": functools.partial(sampled,
                                                                          temperature=1.0),
        "random": functools.partial(sampled, temperature=5.0)
    }
    return [row for name, run in texts.items()
            for row in rows(f"decode, {name} text, s a token", in_turns(servers, rounds, run))]


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
    """Of new pictures; then of the last of these, again and again."""
    sets = [[new_picture() for _ in range(CAPTIONED)] for _ in range(rounds)]
    unseen = {server.port: iter(sets) for server in servers.values()}
    runs: dict[str, Callable[[Server], float]] = {
        "new": lambda server: captions(server, next(unseen[server.port])),
        "again": lambda server: captions(server, sets[-1])
    }
    lines: list[list[object]] = []
    for pictures, run in runs.items():
        measured = in_turns(servers, rounds, run)
        lines.append([f"captions a second, 8 clients, {CAPTIONED} pictures, {pictures}",
                      *map(Figure, measured.values()),
                      ratio(measured["with"], measured["without"])])
    return lines


def measure_users(servers: dict[str, Server], rounds: int) -> list[list[object]]:
    """Users who all show pictures of their own at once. Ends where one of them is refused."""
    prompts = [few_shot([new_picture() for _ in range(USERS_SHOTS)], user)
               for user in range(USERS)]

    def together(server: Server) -> float:
        waiting = list(prompts)

        def user() -> None:
            first_token(server, waiting.pop())

        return seconds_together(USERS, user)

    return rows(f"{USERS} users at once with {USERS_SHOTS} shots each, s until all have 8 tokens",
                in_turns(servers, rounds, together))


def rows(name: str, measured: dict[str, list[float]]) -> list[list[object]]:
    """The ratio: how many times shorter it is now."""
    return [[name, *map(Figure, measured.values()), ratio(measured["without"], measured["with"])]]


MEASURES: dict[str, Callable[[dict[str, Server], int], list[list[object]]]] = {
    "shots": measure_shots, "dialogue": measure_dialogue, "decode": measure_decode,
    "captions": measure_captions, "users": measure_users
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--before", type=Path, help="program of an earlier commit")
    parser.add_argument("--only", default=",".join(MEASURES))
    options = parser.parse_args()
    measures = options.only.split(",")
    heading("What is not computed twice")
    for bundle in options.bundle:
        alone_in_cache(bundle, options.bundle)
        with contextlib.ExitStack() as stack:
            servers = {"with": stack.enter_context(running(Server(bundle)))}
            if {"decode", "captions", "users"} & set(measures):
                flags = [] if options.before else ["--prefix-cache", "false", "--no-speculation"]
                other = Server(bundle, *flags, program=options.before)
                servers = {"without": stack.enter_context(running(other)), **servers}
            print(f"\n{bundle.name}\n")
            lines = [line for name in measures for line in MEASURES[name](servers, options.rounds)]
            table(["figure", *NAMES, "ratio"], lines)


if __name__ == "__main__":
    main()
