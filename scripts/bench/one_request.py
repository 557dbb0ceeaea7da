# SPDX-License-Identifier: Apache-2.0
"""Decode, prompt with a picture, and vision in one start of each program a round: what decode.py, prefill.py and vision.py
measure, for models so large that loading them is most of the time.

    together.py --bundle INT8 --bundle INT4 --checkpoint FOLDER [--rounds 5] [--tokens 24]

Servers and rival run alone in memory, in turns. The memory's read speed is measured beside each server, idle.
"""

import statistics
import sys
from pathlib import Path
from typing import Dict, List

from common import Figure, Server, Transformers, arguments, decode_bytes, heading, ratio, read_bandwidth, running, table
from prefill import REPEATS, new_picture

RIVAL = "transformers bf16"
PROMPT = "the " * 58
Samples = Dict[str, List[float]]


def of_server(bundle: Path, tokens: int) -> Dict[str, float]:
    with running(Server(bundle, "--kv-tokens", "2048")) as server:
        before = read_bandwidth(bundle)
        decode = server.ask(["Tell me a story"], tokens).seconds_per_token
        after = read_bandwidth(bundle)
        new, again = [], []
        for _ in range(REPEATS):
            picture = new_picture()
            answer = server.ask([PROMPT, picture], 8)
            new.append(answer.first)
            again.append(server.ask([PROMPT, picture], 8).first)
        return {"decode": decode, "new": statistics.median(new), "again": statistics.median(again),
                "vision": statistics.median(a - b for a, b in zip(new, again)), "rss": server.peak_rss(),
                "mapped": (before["mapped"] + after["mapped"]) / 2, "prompt": answer.metrics["input_token_count"],
                "anonymous": (before["anonymous"] + after["anonymous"]) / 2}


def of_rival(checkpoint: Path, tokens: int, prompt_tokens: int) -> Dict[str, float]:
    with Transformers(checkpoint) as transformers:
        def middle(**job) -> float:
            return statistics.median(transformers.run(**job)["seconds"] for _ in range(REPEATS))
        return {"decode": transformers.run(do="decode", new_tokens=tokens)["seconds"],
                "new": middle(do="prefill", prompt_tokens=prompt_tokens, images=1), "vision": middle(do="vision")}


def measure(options) -> Dict[str, Samples]:
    samples: Dict[str, Samples] = {}
    for number in range(options.rounds):
        prompt_tokens = 64
        for bundle in options.bundle:
            values = of_server(bundle, options.tokens)
            prompt_tokens = int(values["prompt"])
            for key, value in values.items():
                samples.setdefault(bundle.name, {}).setdefault(key, []).append(value)
        for key, value in of_rival(options.checkpoint, options.tokens, prompt_tokens).items():
            samples.setdefault(RIVAL, {}).setdefault(key, []).append(value)
        print(f"round {number + 1}/{options.rounds}", {name: {key: round(values[-1], 3) for key, values in s.items()}
                                                       for name, s in samples.items()}, file=sys.stderr, flush=True)
    return samples


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=24)
    options = parser.parse_args()
    heading("One request")
    samples = measure(options)
    rival = samples[RIVAL]
    rows = []
    for bundle in options.bundle:
        mine, read = samples[bundle.name], decode_bytes(bundle)
        speed = [read / seconds / 1e9 for seconds in mine["decode"]]
        rows.append([bundle.name, Figure([1 / seconds for seconds in mine["decode"]]), f"{read / 1e9:.2f}", Figure(speed),
                     ratio(speed, mine["mapped"]), ratio(speed, mine["anonymous"]),
                     ratio(rival["decode"], mine["decode"]), f"{max(mine['rss']):.1f}"])
    rows.append([RIVAL, Figure([1 / seconds for seconds in rival["decode"]]), "", "", "", "", "1", ""])
    print("Decode\n")
    table(["weights", "tokens/s", "GB a token", "GB/s", "of mapped read speed", "of huge-page read speed", "× transformers",
           "peak RSS, GB"], rows)
    print(f"\nFirst token: {int(samples[options.bundle[0].name]['prompt'][-1])} prompt tokens and one picture; vision alone\n")
    rows = [[name, Figure(s["new"]), Figure(s["again"]) if "again" in s else "", ratio(rival["new"], s["new"]),
             Figure(s["vision"]), ratio(rival["vision"], s["vision"])] for name, s in samples.items()]
    table(["weights", "new picture, s", "same picture again, s", "× transformers", "vision, s", "× transformers"], rows)


if __name__ == "__main__":
    main()
