#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How far each width of the weights moves the logits: a table, against f32 or against the first bundle named.

    compare_widths.py CHECKPOINT...              exports each as f32, bf16, int8 and int4 and compares
    compare_widths.py --bundles FIRST OTHER...   compares bundles that are there

Every position of the prompts of parity_cases.py, token by token, through tests/model/logits_tool. Set IDEFICS_BUILD_DIR
to the folder of the build.
"""

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

import numpy

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "scripts/goldens")]

from parity_cases import PROMPTS, write_pictures  # noqa: E402

WIDTHS = ["f32", "bf16", "int8", "int4"]
HEAD = """| model | weights | positions | rms error / std | largest error / std | mean KL divergence | same best token |
|---|---|---|---|---|---|---|"""


def _requests(pictures: Path, count: int) -> str:
    lines = []
    for prompt in PROMPTS[:count]:
        parts = [{"text": part} if isinstance(part, str) else {"image": str(pictures / f"{part[1]}.ppm")}
                 for part in prompt.parts]
        lines.append(json.dumps({"prompt_parts": parts, "piece": 1}))
    return "\n".join(lines) + "\n"


def logits(bundle: Path, requests: str, threads: int) -> numpy.ndarray:
    """[positions of all prompts, vocabulary] f32."""
    build = Path(os.environ.get("IDEFICS_BUILD_DIR") or ROOT / "build/release")
    done = subprocess.run([build / "tests/model/logits_tool", bundle, str(threads)], input=requests, text=True,
                          stdout=subprocess.PIPE, check=True, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    found = []
    for line in done.stdout.splitlines():
        answer = json.loads(line)
        if answer["error"]:
            raise SystemExit(f"compare_widths.py: {bundle}: {answer['error']}")
        values = numpy.frombuffer(base64.b64decode(answer["logits"]), "<f4")
        found.append(values.reshape(len(answer["positions"]), -1))
    return numpy.concatenate(found)


def _log_softmax(values: numpy.ndarray) -> numpy.ndarray:
    values = values.astype(numpy.float64)
    values = values - values.max(1, keepdims=True)
    return values - numpy.log(numpy.exp(values).sum(1, keepdims=True))


def row(model: str, weights: str, mine: numpy.ndarray, truth: numpy.ndarray) -> str:
    std = float(truth.std(1).mean())
    error = mine - truth
    ours, theirs = _log_softmax(mine), _log_softmax(truth)
    divergence = (numpy.exp(theirs) * (theirs - ours)).sum(1).mean()
    same = (mine.argmax(1) == truth.argmax(1)).mean()
    return (f"| {model} | {weights} | {len(mine)} | {numpy.sqrt(numpy.square(error).mean()) / std:.5f} | "
            f"{numpy.abs(error).max() / std:.4f} | {divergence:.2e} | {100 * same:.1f} % |")


def _weights_of(bundle: Path) -> str:
    manifest = json.loads((bundle / "bundle.json").read_text())
    return manifest["dtype"] if manifest["quantization"] == "none" else f"{manifest['quantization']} ({manifest['dtype']})"


def compare(model: str, bundles: List[Path], requests: str, threads: int) -> None:
    truth = logits(bundles[0], requests, threads)
    for bundle in bundles[1:]:
        print(row(model, _weights_of(bundle), logits(bundle, requests, threads), truth), flush=True)


def _export_all(checkpoint: Path, folder: Path) -> List[Path]:
    from export.export_bundle import ExportOptions, export_bundle
    bundles: Dict[str, Path] = {}
    for dtype in ("f32", "bf16"):
        for weights in WIDTHS:
            if weights in ("f32", "bf16") and weights != dtype:
                continue
            name = f"{dtype}-{weights}"
            bundles[name] = folder / name
            export_bundle(ExportOptions(checkpoint, bundles[name], dtype=dtype, weights=weights))
    return list(bundles.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+", help="checkpoint folders, or bundles with --bundles")
    parser.add_argument("--bundles", action="store_true")
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        write_pictures(Path(scratch) / "pictures")
        requests = _requests(Path(scratch) / "pictures", options.prompts)
        print(HEAD)
        if options.bundles:
            first = options.checkpoints[0]
            compare(f"{first.name} ({_weights_of(first)})", options.checkpoints, requests, options.threads)
            return
        for number, checkpoint in enumerate(options.checkpoints):
            bundles = _export_all(checkpoint, Path(scratch) / str(number))
            compare(checkpoint.name, bundles, requests, options.threads)


if __name__ == "__main__":
    main()
