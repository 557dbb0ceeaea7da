# SPDX-License-Identifier: Apache-2.0
"""python -m export CHECKPOINT BUNDLE [--weights f32|bf16|f16|int8|int4] [--dtype f32|bf16|f16]
[--vision f32|bf16|f16|int8] [--calibrate FOLDER|synthetic|none] [--name NAME] [--force]"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from .errors import ExportError

_WEIGHTS_HELP = """how the language model's weights are stored: int8 and int4 are read faster
and take a half and a quarter of the memory of bf16; default: as --dtype"""
_VISION_HELP = """how the weights that look at pictures are stored; default: int8 beside int8 and
int4 weights, else as --dtype, and that is the only other choice"""
_CALIBRATE_HELP = """int4: the checkpoint is run on the pictures of a folder, each with the text of
the file NAME.txt beside it or with what the model says of it, and rounded so that what it computes
there stays; int8: only what looks at pictures is; default: drawn pictures, questions and texts of
our own (synthetic); none: each value is rounded for itself, which is faster and less exact, and
int4 then needs the disk of one shard from the hub instead of all of them"""
_DTYPE_HELP = """type of the model's arithmetic and of weights that are not quantized; default: the
checkpoint's own, but bf16 for an f16 checkpoint (same size; f16 activations overflow in the 80b)"""


def _arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=os.environ.get("IDEFICS_PROGRAM_NAME", "export"),
        description=
        "Turns a Hugging Face IDEFICS checkpoint into a bundle for idefics-server.")
    parser.add_argument("checkpoint",
                        help="folder with config.json, weights and tokenizer, or "
                        "ORG/NAME[@REVISION] on the Hugging Face hub")
    parser.add_argument("bundle",
                        type=Path,
                        help="folder to make; it appears only when it is whole")
    parser.add_argument("--weights",
                        choices=["f32", "bf16", "f16", "int8", "int4"],
                        help=_WEIGHTS_HELP)
    parser.add_argument("--dtype", choices=["f32", "bf16", "f16"], help=_DTYPE_HELP)
    parser.add_argument("--vision", choices=["f32", "bf16", "f16", "int8"], help=_VISION_HELP)
    parser.add_argument("--calibrate", metavar="FOLDER|synthetic|none", help=_CALIBRATE_HELP)
    parser.add_argument(
        "--name", help="name of the model in the bundle; default: the checkpoint's own")
    parser.add_argument("--force", action="store_true", help="replace an existing bundle")
    parser.add_argument("--traceback",
                        action="store_true",
                        help="show where in the program a failure was found")
    return parser.parse_args(argv)


def _stop(number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _run(arguments: argparse.Namespace) -> int:
    # torch takes seconds to load; --help need not wait.
    from .export_bundle import ExportOptions, export_bundle
    start = time.monotonic()
    summary = export_bundle(
        ExportOptions(arguments.checkpoint, arguments.bundle, arguments.dtype, arguments.weights,
                      arguments.vision, arguments.calibrate, arguments.name,
                      arguments.force))
    print(
        f"{arguments.bundle}: {summary.name}, {summary.tensors} tensors, "
        f"{summary.weight_bytes / 1e9:.2f} GB, "
        f"{summary.source_dtype.lower()} -> {summary.weights}, {time.monotonic() - start:.1f} s",
        file=sys.stderr)
    print(summary.recommended, file=sys.stderr)
    return 0


def _sentence(error: BaseException, bundle: Path) -> str:
    if isinstance(error, ExportError):
        return str(error)
    if isinstance(error, OSError):
        from .writer import disk_full, is_full
        if is_full(error):
            return str(disk_full(bundle))
        return f"{error.filename or bundle}: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return ("not enough memory for the export: it needs about 1 GB, and more to calibrate: "
                "give --calibrate none")
    return (f"the export failed in an unexpected way ({type(error).__name__}: {error}): run it "
            f"with --traceback")


def main(argv: list[str] | None = None) -> int:
    arguments = _arguments(argv)
    signal.signal(signal.SIGTERM, _stop)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        print("\nexport: stopped, nothing was written", file=sys.stderr)
        return 130
    except Exception as error:
        if arguments.traceback:
            raise
        sentence = " ".join(_sentence(error, arguments.bundle).split())
        print(f"export: {sentence}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
