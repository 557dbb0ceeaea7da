# SPDX-License-Identifier: Apache-2.0
"""Decode: time of a token of one running request, against the memory's speed and against transformers.

    decode.py --bundle INT8 --bundle INT4 --checkpoint FOLDER [--rounds 5] [--tokens 24]

Each round runs every server and the rival one after the other, each alone in memory (both at once do not fit), and
measures the memory's read speed right before each of ours.
"""

from pathlib import Path
from typing import Dict, List

from common import (Figure, Server, Transformers, arguments, decode_bytes, heading, interleaved, ratio, read_bandwidth,
                    running, table)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--checkpoint", type=Path, help="Hugging Face folder for transformers; left out: no rival")
    parser.add_argument("--tokens", type=int, default=24)
    options = parser.parse_args()
    bandwidth: Dict[str, Dict[str, List[float]]] = {}
    memory: Dict[str, float] = {}

    def ours(bundle: Path) -> float:
        speeds = bandwidth.setdefault(bundle.name, {"anonymous": [], "mapped": []})
        with running(Server(bundle, "--kv-tokens", "2048")) as server:
            measured = read_bandwidth(bundle)
            for kind, values in speeds.items():
                values.append(measured[kind])
            seconds = server.ask(["Tell me a story"], options.tokens).seconds_per_token
            memory[bundle.name] = max(memory.get(bundle.name, 0), server.peak_rss())
            return seconds

    def rival() -> float:
        with Transformers(options.checkpoint) as transformers:
            return transformers.run(do="decode", new_tokens=options.tokens)["seconds"]

    runs = {bundle.name: (lambda bundle=bundle: ours(bundle)) for bundle in options.bundle}
    if options.checkpoint:
        runs["transformers bf16"] = rival
    heading("Decode of one request")
    seconds = interleaved(options.rounds, runs)
    rows = []
    for name, times in seconds.items():
        row = [name, Figure([1 / t for t in times])]
        bundle = next((b for b in options.bundle if b.name == name), None)
        if bundle is None:
            rows.append([*row, "", "", "", "", "1", ""])
            continue
        read = decode_bytes(bundle)
        speed = [read / t / 1e9 for t in times]
        rows.append([*row, f"{read / 1e9:.2f}", Figure(speed), ratio(speed, bandwidth[name]["mapped"]),
                     ratio(speed, bandwidth[name]["anonymous"]),
                     ratio(seconds["transformers bf16"], times) if options.checkpoint else "",
                     f"{memory[name]:.1f}"])
    table(["weights", "tokens/s", "GB a token", "GB/s", "of mapped read speed", "of huge-page read speed",
           "× transformers", "peak RSS, GB"], rows)


if __name__ == "__main__":
    main()
