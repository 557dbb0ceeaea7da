# SPDX-License-Identifier: Apache-2.0
"""Vision of one picture, ours against transformers', in turns: both programs stay in memory and one
waits while the other one runs, so that a slow minute hits both.

    vision.py --bundle INT8 --checkpoint FOLDER [--rounds 9] [--rival-dtype f32] [--cpu avx2]

Ours: what a new picture takes longer than the same question again, so decoding the file and the
keys and values of the cross layers are in it. The rival's: vision tower and perceiver alone, of the
checkpoint's shape with random weights; its decoder, which takes the memory, is left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

from common import (
    AS_AVX2,
    RIVAL,
    Figure,
    Server,
    arguments,
    heading,
    new_picture,
    note,
    ratio,
    running,
    table,
)

TEXT = "the " * 8


def ours(server: Server) -> float:
    picture = new_picture()
    new, again = (server.ask([TEXT, picture], 8).first for _ in range(2))
    return new - again


def serve_rival(checkpoint: Path, dtype: str) -> None:
    """Answers each line of standard input with the seconds of one picture."""
    warnings.filterwarnings("ignore")
    import torch
    import transformers
    from transformers.models.idefics import perceiver, vision
    config = transformers.IdeficsConfig.from_pretrained(checkpoint)
    config.vision_config._attn_implementation = "sdpa"
    shape, sees = config.perceiver_config, config.vision_config
    torch.set_num_threads(os.cpu_count() or 1)
    torch.set_default_dtype({"bf16": torch.bfloat16, "f32": torch.float32}[dtype])
    tower = vision.IdeficsVisionTransformer(sees).eval()
    resampler = perceiver.IdeficsPerceiverResampler(
        config, sees.embed_dim, shape.resampler_depth, shape.resampler_n_heads,
        shape.resampler_head_dim, shape.resampler_n_latents).eval()
    with torch.inference_mode():
        for _ in sys.stdin:
            pixels = torch.randn(1, sees.num_channels, sees.image_size, sees.image_size)
            start = time.perf_counter()
            resampler(tower(pixel_values=pixels).last_hidden_state)
            print(json.dumps(time.perf_counter() - start), flush=True)


def compare(options: argparse.Namespace, env: dict[str, str]) -> tuple[list[float], list[float]]:
    command = [sys.executable, __file__, "--serve-rival", *sys.argv[1:]]
    flags = ["--prefix-cache", "false", "--no-speculation"]
    mine, theirs = [], []
    with (subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           env={**os.environ, **env}, text=True) as rival,
          running(Server(options.bundle[0], *flags, env=env)) as server):
        assert rival.stdin is not None and rival.stdout is not None
        for turn in range(options.rounds + 1):  # the first one warms up
            seconds = ours(server)
            rival.stdin.write("\n")
            rival.stdin.flush()
            both = seconds, float(json.loads(rival.stdout.readline()))
            note(f"round {turn}/{options.rounds}: {both[0]:.4g} {both[1]:.4g}")
            if turn:
                mine.append(both[0])
                theirs.append(both[1])
        rival.stdin.close()
    return mine, theirs


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--rival-dtype", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--cpu",
                        choices=("", "avx2"),
                        default="",
                        help="both run what a CPU without AVX-512 would")
    parser.add_argument("--serve-rival", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_rival:
        serve_rival(options.checkpoint, options.rival_dtype)
        return
    heading("Vision of one picture")
    mine, theirs = compare(options, AS_AVX2 if options.cpu == "avx2" else {})
    table([options.bundle[0].name + ", s", f"{RIVAL} {options.rival_dtype}, s", "×"],
          [[Figure(mine), Figure(theirs), ratio(theirs, mine)]])
    note(f"ratio of medians {statistics.median(theirs) / statistics.median(mine):.3g}")


if __name__ == "__main__":
    main()
