# SPDX-License-Identifier: Apache-2.0
"""Against llama.cpp, in turns: the speed of a prompt and of decode, one request on all cores.

    llama_cpp.py --bundle INT8 [--bundle INT4] [--cpu avx2] [--rounds 5] [--prompts 64,512]

The rival's model is a LLaMA of random weights with the same width and about as many weights, of the
same bits: Q8_0 beside int8, Q4_0 beside int4. Layers differ (ours attend to pictures in between),
so speeds are weights times tokens a second, of the weights that a step reads. Ours: through HTTP,
with a picture that was seen before, so that all layers work; the rival's: llama-bench. `--cpu avx2`
has both run what a CPU without AVX-512 would. The memory's read speed is measured beside ours.
"""

import argparse
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import llama_peer
from common import (
    AS_AVX2,
    PICTURE,
    Figure,
    Server,
    arguments,
    data_uri,
    decode_bytes,
    heading,
    middle,
    note,
    ratio,
    read_bandwidth,
    running,
    table,
)

READ_SPEEDS = ("mapped", "anonymous")  # of read_bandwidth: a file's pages, huge pages
KINDS = {"int8": "Q8_0", "int4": "Q4_0"}
Figures = dict[str, float]


def manifest(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "bundle.json").read_text())


def num_cross_layers(model: dict[str, int]) -> int:
    return -(-model["num_layers"] // model["cross_layer_interval"])


def step_weights(bundle: Path) -> int:
    """Numbers that one decode step of ours reads, norms and gates left out."""
    model = manifest(bundle)["model"]
    hidden, ffn = model["hidden_size"], model["intermediate_size"]
    layer = 4 * hidden * hidden + 3 * hidden * ffn
    cross = 2 * hidden * hidden + 3 * hidden * ffn  # keys and values are made with the picture
    return (model["num_layers"] * layer + num_cross_layers(model) * cross +
            model["vocab_size"] * hidden)


def rival_shape(bundle: Path) -> llama_peer.Shape:
    model = manifest(bundle)["model"]
    return llama_peer.Shape(model["num_layers"] + num_cross_layers(model), model["hidden_size"],
                            model["intermediate_size"], model["num_heads"], model["vocab_size"])


def prompt_of(server: Server, tokens: int) -> list[str]:
    """About so many tokens, the picture's among them."""
    picture = data_uri(PICTURE.read_bytes())
    few = server.ask(["the " * 8, picture], 8).metrics["input_token_count"]
    return ["the " * (8 + tokens - few), picture]


def first_token(server: Server, prompt: list[str]) -> float:
    return middle(lambda: server.ask(prompt, 8).first)


def measure_ours(bundle: Path, lengths: list[int], tokens: int, env: dict[str, str]) -> Figures:
    weights = step_weights(bundle)
    flags = ["--kv-tokens", "4096", "--prefix-cache", "false", "--no-speculation"]
    with running(Server(bundle, *flags, env=env)) as server:
        figures: Figures = {}
        for length in lengths:
            prompt = prompt_of(server, length)
            server.ask(prompt, 8)  # the picture is known from now on
            count = server.ask(prompt, 8).metrics["input_token_count"]
            figures[f"prompt of {length}"] = weights * count / first_token(server, prompt)
        before = read_bandwidth(bundle)
        prompt = prompt_of(server, 16)
        figures["decode"] = weights / middle(lambda: server.ask(prompt, tokens).seconds_per_token)
        after = read_bandwidth(bundle)
        for kind in READ_SPEEDS:
            figures[kind] = (before[kind] + after[kind]) / 2
    return figures


def measure_rival(program: Path, model: Path, shape: llama_peer.Shape, lengths: list[int],
                  tokens: int) -> Figures:
    command = [str(program / "llama-bench"), "-m", str(model), "-t", str(os.cpu_count()), "-r", "3",
               "-p", ",".join(map(str, lengths)), "-n", str(tokens), "-o", "json"]
    said = subprocess.run(command, capture_output=True, text=True)
    if said.returncode != 0:
        raise SystemExit(f"llama-bench failed:\n{said.stderr[-2000:]}")
    figures: Figures = {}
    for test in json.loads(said.stdout):
        name = f"prompt of {test['n_prompt']}" if test["n_prompt"] else "decode"
        rates = sorted(test["samples_ts"])
        figures[name] = shape.step_weights * rates[len(rates) // 2]
    return figures


def compare(bundle: Path, options: argparse.Namespace, lengths: list[int]) -> list[list[object]]:
    kind = KINDS[manifest(bundle)["quantization"]]
    shape = rival_shape(bundle)
    model = llama_peer.model(kind, shape)
    program = llama_peer.programs(options.cpu)
    env = AS_AVX2 if options.cpu == "avx2" else {}
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}
    for number in range(options.rounds):
        for into, figures in (
            (ours, measure_ours(bundle, lengths, options.tokens, env)),
            (theirs, measure_rival(program, model, shape, lengths, options.tokens))):
            for name, figure in figures.items():
                into.setdefault(name, []).append(figure)
            note(f"round {number + 1}/{options.rounds}: " +
                 ", ".join(f"{name} {figure:.3g}" for name, figure in figures.items()))
    rows: list[list[object]] = [[
        f"{bundle.name} / {kind}", name,
        Figure([x / 1e9 for x in ours[name]]),
        Figure([x / 1e9 for x in theirs[name]]),
        ratio(ours[name], theirs[name])
    ] for name in theirs]
    bytes_a_weight = decode_bytes(bundle) / step_weights(bundle)
    read = [speed * bytes_a_weight / 1e9 for speed in ours["decode"]]
    shares = ", ".join(f"{ratio(read, ours[kind])} of the {kind} read speed"
                       for kind in READ_SPEEDS)
    note(f"{bundle.name}: decode reads {Figure(read)} GB/s, {shares}")
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--cpu", choices=sorted(llama_peer.FLAGS), default="")
    parser.add_argument("--prompts", default="64,512", help="lengths in tokens")
    parser.add_argument("--tokens", type=int, default=24, help="of decode")
    options = parser.parse_args()
    lengths = [int(length) for length in options.prompts.split(",")]
    heading("Against llama.cpp (llama-cpp-python 0.3.36)" +
            (f", both as on a CPU with {options.cpu} only" if options.cpu else ""))
    rows = [row for bundle in options.bundle for row in compare(bundle, options, lengths)]
    table(["weights", "what", "ours, 10⁹ weights × tokens/s", "llama.cpp", "ours is faster by"],
          rows)


if __name__ == "__main__":
    main()
