# SPDX-License-Identifier: Apache-2.0
"""What each part of the engine is worth: decode of one request with one part after another switched
on, alternating with transformers on the same weights (docs/performance.md#the-ladder).

    ladder.py --bundle BF16 [--bundle INT8] [--bundle INT4] --checkpoint FOLDER [--rounds 5]

The first bundle climbs the rungs that this machine has; a further bundle is a rung of its own. On a
GPU rungs are plain operators, custom operators, CUDA graphs, async scheduling, and fp8 where the
chip has it; on a CPU plain and custom operators. The read speed of the same round is the measure of
GB/s: on a GPU by transformers' process, before its model is loaded.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from common import (
    RIVAL,
    Figure,
    Server,
    Transformers,
    alone_in_cache,
    arguments,
    decode_bytes,
    heading,
    interleaved,
    ratio,
    read_bandwidth,
    running,
    table,
)


class Rung(NamedTuple):
    name: str
    bundle: Path
    flags: list[str]


def has_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists()


def rungs(bundles: list[Path], on_gpu: bool) -> list[Rung]:
    first, *others = bundles
    if on_gpu:
        climbed = [("plain operators",
                    ["--no-custom-ops", "--no-graph", "--async-scheduling", "false"]),
                   ("custom operators", ["--no-graph", "--async-scheduling", "false"]),
                   ("CUDA graphs", ["--async-scheduling", "false"]), ("async scheduling", []),
                   ("fp8", ["--weights", "fp8"])]
    else:
        climbed = [("plain operators", ["--no-custom-ops"]), ("custom operators", [])]
    return [*(Rung(f"{first.name}, {name}", first, flags) for name, flags in climbed),
            *(Rung(bundle.name, bundle, []) for bundle in others)]


def measure(options: argparse.Namespace, ladder: list[Rung],
            on_gpu: bool) -> dict[str, list[float]]:
    """Seconds a token of each rung and the rival, and the "read speed" of each round in GB/s."""
    folders = [*options.bundle, options.checkpoint]
    speeds: list[float] = []

    def decode(rung: Rung) -> float:
        alone_in_cache(rung.bundle, folders)
        with running(Server(rung.bundle, "--kv-tokens", "2048", *rung.flags)) as server:
            return server.decode_seconds(options.tokens)

    def decode_of_rival() -> float:
        alone_in_cache(options.checkpoint, folders)
        with Transformers(options.checkpoint) as rival:
            speeds.append(rival.info["read_bandwidth"]
                          if on_gpu else read_bandwidth(options.bundle[0])["mapped"])
            return rival.decode_seconds(options.tokens)

    runs = {rung.name: lambda rung=rung: decode(rung) for rung in ladder}
    return {**interleaved(options.rounds, {**runs, RIVAL: decode_of_rival}), "read speed": speeds}


def show(samples: dict[str, list[float]], ladder: list[Rung]) -> None:
    rows = [[RIVAL, Figure([1 / s for s in samples[RIVAL]]), "", "", "1"]]
    for rung in ladder:
        seconds = samples[rung.name]
        speed = [decode_bytes(rung.bundle) / s / 1e9 for s in seconds]
        shown = ["", ""] if "fp8" in rung.flags else [
            Figure(speed), ratio(speed, samples["read speed"])
        ]
        rows.append(
            [rung.name,
             Figure([1 / s for s in seconds]), *shown,
             ratio(samples[RIVAL], seconds)])
    table(["rung", "tokens/s", "GB/s of weights", "of read speed", "× transformers"], rows)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--checkpoint",
                        type=Path,
                        required=True,
                        help="Hugging Face folder for transformers")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--no-fp8",
                        action="store_true",
                        help="leave that rung out: on chips before Ada")
    options = parser.parse_args()
    on_gpu = has_gpu()
    ladder = [
        rung for rung in rungs(options.bundle, on_gpu)
        if not (options.no_fp8 and "fp8" in rung.flags)
    ]
    heading("The ladder")
    show(measure(options, ladder, on_gpu), ladder)


if __name__ == "__main__":
    main()
