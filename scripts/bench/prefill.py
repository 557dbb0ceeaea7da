# SPDX-License-Identifier: Apache-2.0
"""Prompt and picture: time to the first token of a prompt with one new picture, ours through HTTP, JPEG and all.

    prefill.py --bundle INT8 --checkpoint FOLDER [--rounds 5] [--words 58]

The rival gets ready tensors. Each runs alone in memory, in turns.
"""

import io
import random
from pathlib import Path
from typing import Dict

from PIL import Image

from common import (PICTURE, Answer, Figure, Server, Transformers, arguments, data_uri, heading, interleaved, ratio,
                    running, table)

REPEATS = 3  # in one start of a server, so that a round is not one measurement


def new_picture() -> str:
    """Never seen before: one pixel differs."""
    image = Image.open(PICTURE).convert("RGB")
    image.putpixel((random.randrange(image.width), random.randrange(image.height)), (random.randrange(256),) * 3)
    file = io.BytesIO()
    image.save(file, "PNG")
    return data_uri(file.getvalue()).replace("jpeg", "png")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--words", type=int, default=58, help="of text beside the picture: 58 give about 64 tokens")
    options = parser.parse_args()
    text = "the " * options.words
    prompt_tokens: Dict[str, int] = {}
    again: Dict[str, list] = {}

    def ours(bundle: Path) -> float:
        with running(Server(bundle, "--kv-tokens", "2048")) as server:
            best = []
            for _ in range(REPEATS):
                picture = new_picture()
                first: Answer = server.ask([text, picture], 8)
                second = server.ask([text, picture], 8)
                best.append((first.first, second.first))
            prompt_tokens[bundle.name] = first.metrics["input_token_count"]
        again.setdefault(bundle.name, []).append(sorted(second for _, second in best)[REPEATS // 2])
        return sorted(first for first, _ in best)[REPEATS // 2]

    def rival() -> float:
        with Transformers(options.checkpoint) as transformers:
            times = [transformers.run(do="prefill", prompt_tokens=max(prompt_tokens.values()), images=1)["seconds"]
                     for _ in range(REPEATS)]
            return sorted(times)[REPEATS // 2]

    runs = {bundle.name: (lambda bundle=bundle: ours(bundle)) for bundle in options.bundle}
    if options.checkpoint:
        runs["transformers bf16"] = rival
    heading("Time to the first token, one picture")
    seconds = interleaved(options.rounds, runs)
    table(["weights", "prompt tokens", "new picture, s", "same picture again, s", "× transformers (new picture)"],
          [[name, prompt_tokens.get(name, max(prompt_tokens.values())), Figure(times),
            Figure(again[name]) if name in again else "",
            ratio(seconds["transformers bf16"], times) if options.checkpoint else ""]
           for name, times in seconds.items()])


if __name__ == "__main__":
    main()
