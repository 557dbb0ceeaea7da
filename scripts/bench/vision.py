# SPDX-License-Identifier: Apache-2.0
"""Vision tower and perceiver: what a new picture adds to the first token, against the same modules of transformers.

    vision.py --bundle BUNDLE --checkpoint FOLDER [--rounds 5]

Ours is a difference: first token with a new picture less the same question again, so decoding the file and the keys
and values of the cross layers are in it.
"""

from pathlib import Path

from common import Figure, Server, Transformers, arguments, heading, interleaved, ratio, running, table
from prefill import REPEATS, new_picture


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    options = parser.parse_args()

    def ours(bundle: Path) -> float:
        with running(Server(bundle, "--kv-tokens", "2048")) as server:
            times = []
            for _ in range(REPEATS):
                picture = new_picture()
                times.append(server.ask(["What?", picture], 8).first - server.ask(["What?", picture], 8).first)
            return sorted(times)[REPEATS // 2]

    def rival() -> float:
        with Transformers(options.checkpoint) as transformers:
            return sorted(transformers.run(do="vision")["seconds"] for _ in range(REPEATS))[REPEATS // 2]

    heading("One picture")
    runs = {bundle.name: (lambda bundle=bundle: ours(bundle)) for bundle in options.bundle}
    seconds = interleaved(options.rounds, {**runs, "transformers bf16": rival})
    table(["", "s a picture", "× transformers"],
          [[name, Figure(times), ratio(seconds["transformers bf16"], times)] for name, times in seconds.items()])


if __name__ == "__main__":
    main()
