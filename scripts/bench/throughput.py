# SPDX-License-Identifier: Apache-2.0
"""Many requests at once through HTTP: tokens a second with 1 … N clients in a closed loop, and what
an arrival does to the time between the tokens of a running stream.

    throughput.py --bundle BUNDLE [--clients 1,2,4,8] [--rounds 5] [--tokens 16]
"""

import functools
import statistics
import threading
import time

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
    table,
)


def closed_loop(server: Server, clients: int, new_tokens: int) -> float:
    """Tokens a second while every client runs; each asks twice, one question after the other."""
    start = time.perf_counter()
    answers: list[int] = []

    def client(number: int) -> None:
        for turn in range(2):
            answers.append(server.ask([f"Question {number}, turn {turn}:"], new_tokens).tokens)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(answers) / (time.perf_counter() - start)


def gaps_of_stream(server: Server, arrivals: int, new_tokens: int) -> list[float]:
    """Seconds between the tokens of one stream while `arrivals` others come with a new picture and
    60 tokens each."""
    gaps: list[float] = []
    stream = threading.Thread(
        target=lambda: gaps.extend(server.ask(["Tell me a long story"], new_tokens).gaps()))
    stream.start()
    time.sleep(2)
    others = []
    for _ in range(arrivals):
        prompt = ["the " * 54, new_picture()]
        others.append(threading.Thread(target=lambda prompt=prompt: server.ask(prompt, 8)))
        others[-1].start()
        time.sleep(1)
    for thread in [*others, stream]:
        thread.join()
    return gaps


def show_gaps(server: Server, new_tokens: int) -> None:
    rows = []
    for arrivals in (0, 3):
        gaps = sorted(gaps_of_stream(server, arrivals, new_tokens))
        rows.append([
            arrivals,
            len(gaps),
            *(f"{1000 * value:.0f}"
              for value in (statistics.median(gaps), gaps[int(len(gaps) * 0.9)], gaps[-1]))
        ])
    print(
        "\nBetween two tokens of a running stream, ms; an arrival: a new picture, about 60 "
        "tokens, 8 new ones\n"
    )
    table(["arrivals", "gaps", "median", "90 %", "largest"], rows)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--clients", default="1,2,4,8")
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args()
    counts = [int(count) for count in options.clients.split(",")]
    heading("Clients in a closed loop")
    for bundle in options.bundle:
        alone_in_cache(bundle, options.bundle)
        with running(Server(bundle, "--kv-tokens", "4096", "--max-num-seqs",
                            str(max(counts)))) as server:
            rates = interleaved(options.rounds, {
                str(count): functools.partial(closed_loop, server, count, options.tokens)
                for count in counts})
            print(f"\n{bundle.name}\n")
            table(
                ["clients", "tokens/s", "× one client"],
                [[name, Figure(values), ratio(values, rates[str(counts[0])])]
                 for name, values in rates.items()])
            show_gaps(server, new_tokens=40)


if __name__ == "__main__":
    main()
