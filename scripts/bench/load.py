# SPDX-License-Identifier: Apache-2.0
"""From start to READY and to the first token: the first time (all hashes) and again.

    load.py --bundle BUNDLE [--rounds 5] [--cold]

The weights are in the page cache; with --cold they are dropped from it before each first start.
"""

import tempfile
from pathlib import Path

from common import Figure, Server, alone_in_cache, arguments, forget, heading, note, table


def start(bundle: Path, cache: str) -> dict[str, float]:
    with Server(bundle, "--kv-tokens", "2048", env={"XDG_CACHE_HOME": cache}) as server:
        first = server.seconds_to_ready + server.ask(["Hi"], 8).first
        return {"ready": server.seconds_to_ready, "first token": first,
                "rss": server.peak_rss()}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--cold", action="store_true")
    options = parser.parse_args()
    heading("Start")
    rows: list[list[object]] = []
    for bundle in options.bundle:
        size = sum(path.stat().st_size for path in bundle.iterdir()) / 1e9
        figures: dict[str, list[dict[str, float]]] = {"first": [], "again": []}
        for number in range(options.rounds):
            with tempfile.TemporaryDirectory() as cache:
                for which, values in figures.items():
                    if options.cold and which == "first":
                        forget(bundle)
                    else:
                        alone_in_cache(bundle, options.bundle)
                    values.append(start(bundle, cache))
                    note(f"round {number + 1}/{options.rounds} {bundle.name}, {which}: " +
                         ", ".join(f"{key} {value:.4g}" for key, value in values[-1].items()))
        for which, values in figures.items():
            ready = [value["ready"] for value in values]
            rows.append([
                bundle.name, f"{size:.1f}", which,
                Figure(ready),
                Figure([value["first token"] for value in values]),
                f"{max(value['rss'] for value in values):.1f}"
            ])
    table(["bundle", "GB", "start", "READY after, s", "first token after, s", "peak RSS, GB"], rows)


if __name__ == "__main__":
    main()
