# SPDX-License-Identifier: Apache-2.0
"""Captions a second: many clients, a picture each time, first all of them new, then the same again.

    captions.py --bundle BUNDLE [--clients 8] [--pictures 64] [--tokens 16] [--rounds 5]
"""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from common import (
    Figure,
    Server,
    alone_in_cache,
    arguments,
    heading,
    new_picture,
    note,
    running,
    table,
)


def captions_a_second(server: Server, pictures: Sequence[str], clients: int, tokens: int) -> float:
    start = perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda picture: server.ask(["Describe", picture, "A picture of"], tokens),
                      pictures))
    return len(pictures) / (perf_counter() - start)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args()
    heading("Captions")
    rows = []
    for bundle in options.bundle:
        alone_in_cache(bundle, options.bundle)
        rates: dict[str, list[float]] = {"new": [], "seen": []}
        with running(Server(bundle, "--max-num-seqs", str(options.clients), "--image-cache-slots",
                            str(2 * options.pictures))) as server:
            for number in range(options.rounds):
                pictures = [new_picture() for _ in range(options.pictures)]
                for which, values in rates.items():
                    random.shuffle(pictures)
                    values.append(captions_a_second(server, pictures, options.clients,
                                                    options.tokens))
                    note(f"round {number + 1}/{options.rounds} {bundle.name}, {which}: "
                         f"{values[-1]:.4g}")
        rows += [[bundle.name, which, Figure(values)] for which, values in rates.items()]
    table(["bundle", "pictures", "captions/s"], rows)


if __name__ == "__main__":
    main()
