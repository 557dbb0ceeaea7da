# SPDX-License-Identifier: Apache-2.0
"""One request at a time, against the memory's speed and against transformers: the time of a token
(decode), of the first token of a prompt with a new picture, and of vision alone.

    one_request.py --bundle INT8 --bundle INT4 [--checkpoint FOLDER] [--rounds 5] [--only decode]
                   [--rival-dtype f32] [--cpu avx2]

Servers and rival run alone in memory, in turns; every round starts each of them once, its files in
the page cache and the others' not. Decode of both: from the first token to the last, by the number
between them; ours through HTTP. The memory's read speed is measured beside each server, idle,
before and after. First token: ours through HTTP, picture file and all; the rival gets ready
tensors. Vision of ours: what a new picture takes longer than the same question again, so decoding
the file and the keys and values of the cross layers are in it; the rival's: vision tower and
perceiver alone.
"""

import argparse
import statistics
from pathlib import Path

from common import (
    AS_AVX2,
    REPEATS,
    RIVAL,
    Figure,
    Server,
    Transformers,
    alone_in_cache,
    arguments,
    decode_bytes,
    heading,
    middle,
    new_picture,
    note,
    ratio,
    read_bandwidth,
    running,
    table,
)

KINDS = ("decode", "picture")
Figures = dict[str, float]
Samples = dict[str, dict[str, list[float]]]  # of a program's name, of a figure's name


def decode_of_server(server: Server, bundle: Path, tokens: int) -> Figures:
    before = read_bandwidth(bundle)
    seconds = server.decode_seconds(tokens)
    after = read_bandwidth(bundle)
    return {
        "decode": seconds,
        **{kind: (before[kind] + after[kind]) / 2
           for kind in ("mapped", "anonymous")}
    }


def picture_of_server(server: Server, text: str) -> Figures:
    new, again = [], []
    for _ in range(REPEATS):
        picture = new_picture()
        answer = server.ask([text, picture], 8)
        new.append(answer.first)
        again.append(server.ask([text, picture], 8).first)
    return {
        "prompt": answer.metrics["input_token_count"], "new": statistics.median(new),
        "again": statistics.median(again),
        "vision": statistics.median(a - b for a, b in zip(new, again, strict=True))
    }


def picture_of_rival(rival: Transformers, prompt_tokens: int) -> Figures:
    return {
        "new": middle(
            lambda: rival.run(do="prefill", prompt_tokens=prompt_tokens, images=1)["seconds"]),
        "vision": middle(lambda: rival.run(do="vision")["seconds"])
    }


def measure(options: argparse.Namespace) -> Samples:
    folders = [*options.bundle, *([options.checkpoint] if options.checkpoint else [])]
    samples: Samples = {}
    env = AS_AVX2 if options.cpu == "avx2" else {}

    def add(name: str, figures: Figures) -> None:
        for key, value in figures.items():
            samples.setdefault(name, {}).setdefault(key, []).append(value)
        note(f"round {number + 1}/{options.rounds} {name}: " +
             ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))

    for number in range(options.rounds):  # noqa: B007 (add() names the round)
        for bundle in options.bundle:
            alone_in_cache(bundle, folders)
            # The same question again is computed again: only its picture is known.
            flags = ["--kv-tokens", "2048", "--prefix-cache", "false", "--no-speculation"]
            with running(Server(bundle, *flags, env=env)) as server:
                if "decode" in options.only:
                    add(bundle.name, decode_of_server(server, bundle, options.tokens))
                if "picture" in options.only:
                    add(bundle.name, picture_of_server(server, "the " * options.words))
                add(bundle.name, {"rss": server.peak_rss()})
        if options.checkpoint:
            alone_in_cache(options.checkpoint, folders)
            with Transformers(options.checkpoint, options.rival_dtype, env) as rival:
                if "decode" in options.only:
                    add(RIVAL, {"decode": rival.decode_seconds(options.tokens)})
                if "picture" in options.only:
                    prompt_tokens = samples[options.bundle[-1].name]["prompt"][-1]
                    add(RIVAL, picture_of_rival(rival, int(prompt_tokens)))
    return samples


def faster(samples: Samples, name: str, key: str) -> object:
    return ratio(samples[RIVAL][key], samples[name][key]) if RIVAL in samples else ""


def show_decode(samples: Samples, bundles: list[Path]) -> None:
    rows = []
    for name, figures in samples.items():
        row = [name, Figure([1 / seconds for seconds in figures["decode"]])]
        bundle = next((bundle for bundle in bundles if bundle.name == name), None)
        if bundle is None:
            rows.append([*row, "", "", "", "", "1", ""])
            continue
        read = decode_bytes(bundle)
        speed = [read / seconds / 1e9 for seconds in figures["decode"]]
        rows.append([
            *row, f"{read / 1e9:.2f}",
            Figure(speed),
            ratio(speed, figures["mapped"]),
            ratio(speed, figures["anonymous"]),
            faster(samples, name, "decode"), f"{max(figures['rss']):.1f}"
        ])
    print("Decode\n")
    table([
        "weights", "tokens/s", "GB a token", "GB/s", "of mapped read speed",
        "of huge-page read speed", "× transformers", "peak RSS, GB"
    ], rows)


def show_picture(samples: Samples, prompt_tokens: float) -> None:
    print(f"\nFirst token: {int(prompt_tokens)} prompt tokens and one picture; vision alone\n")
    table([
        "weights", "new picture, s", "same picture again, s", "× transformers", "vision, s",
        "× transformers"
    ], [[
        name,
        Figure(figures["new"]),
        Figure(figures["again"]) if "again" in figures else "",
        faster(samples, name, "new"),
        Figure(figures["vision"]),
        faster(samples, name, "vision")
    ] for name, figures in samples.items()])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--checkpoint",
                        type=Path,
                        help="Hugging Face folder for transformers; left out: no rival")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--words",
                        type=int,
                        default=58,
                        help="of text beside the picture: 58 give about 64 tokens")
    parser.add_argument("--rival-dtype", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--cpu",
                        choices=("", "avx2"),
                        default="",
                        help="both run what a CPU without AVX-512 would")
    parser.add_argument("--only", choices=KINDS, nargs="+", default=KINDS, help="all, unless named")
    options = parser.parse_args()
    heading("One request")
    samples = measure(options)
    if "decode" in options.only:
        show_decode(samples, options.bundle)
    if "picture" in options.only:
        show_picture(samples, samples[options.bundle[0].name]["prompt"][-1])


if __name__ == "__main__":
    main()
