# SPDX-License-Identifier: Apache-2.0
"""Captions a second: many clients, a picture each time, first all of them new, then the same again.

    captions.py --bundle BUNDLE [--clients 8] [--pictures 64] [--rounds 5]
"""

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
from reuse import captions


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=64)
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
                    values.append(captions(server, pictures, options.clients))
                    note(f"round {number + 1}/{options.rounds} {bundle.name}, {which}: "
                         f"{values[-1]:.4g}")
        rows += [[bundle.name, which, Figure(values)] for which, values in rates.items()]
    table(["bundle", "pictures", "captions/s"], rows)


if __name__ == "__main__":
    main()
