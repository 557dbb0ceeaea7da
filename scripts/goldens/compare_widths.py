#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How far each width of the weights moves the logits: a table, against f32 or against the first
bundle named; then the same with the KV cache in 8 bit.

    compare_widths.py CHECKPOINT...              exports each as f32, bf16, int8 and int4 and
    compares; fp8 as an f32
                                                 bundle of what the server makes of the weights
                                                 while loading
    compare_widths.py --bundles FIRST OTHER...   compares bundles that are there

Every position of the prompts of parity_cases.py, token by token, through tests/model/logits_tool.
Set IDEFICS_BUILD_DIR to the folder of the build.
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "scripts/goldens")]

from parity_cases import PROMPTS, write_pictures  # noqa: E402

WIDTHS = ["f32", "bf16", "int8", "int4"]
HEAD = ("| model | weights | positions | rms error / std | largest error / std "
        "| mean KL divergence | same best token |\n|---|---|---|---|---|---|---|")


def _requests(pictures: Path, count: int) -> str:
    lines = []
    for prompt in PROMPTS[:count]:
        parts = [{"text": part}
                 if isinstance(part, str) else {"image": str(pictures / f"{part[1]}.ppm")}
                 for part in prompt.parts]
        lines.append(json.dumps({"prompt_parts": parts, "piece": 1}))
    return "\n".join(lines) + "\n"


def logits(bundle: Path, requests: str, threads: int, kv_dtype: str = "bundle") -> numpy.ndarray:
    """[positions of all prompts, vocabulary] f32."""
    build = Path(os.environ.get("IDEFICS_BUILD_DIR") or ROOT / "build/release")
    done = subprocess.run([build / "tests/model/logits_tool", bundle,
                           str(threads)],
                          input=requests,
                          text=True,
                          stdout=subprocess.PIPE,
                          check=True,
                          env={
                              **os.environ, "OMP_WAIT_POLICY": "PASSIVE",
                              "IDEFICS_KV_DTYPE": kv_dtype
                          })
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
    return (
        f"| {model} | {weights} | {len(mine)} | "
        f"{numpy.sqrt(numpy.square(error).mean()) / std:.5f} | "
        f"{numpy.abs(error).max() / std:.4f} | {divergence:.2e} | {100 * same:.1f} % |")


def _weights_of(bundle: Path) -> str:
    manifest = json.loads((bundle / "bundle.json").read_text())
    return manifest["dtype"] if manifest[
        "quantization"] == "none" else f"{manifest['quantization']} ({manifest['dtype']})"


def compare(model: str, bundles: dict[str, Path], requests: str, threads: int) -> None:
    """All but the first of `bundles`, by the names of their weights, with the first."""
    first, *others = bundles.items()
    truth = logits(first[1], requests, threads)
    for weights, bundle in others:
        print(row(model, weights, logits(bundle, requests, threads), truth), flush=True)
    for weights, bundle in bundles.items():
        coded = logits(bundle, requests, threads, "int8")
        print(row(model, f"{weights}, KV in int8", coded, truth), flush=True)


def _in_fp8(weight):
    """[n, k] f32 as predictor/ops/packed_weight.h has it: the nearest e4m3, with a scale a row."""
    import torch
    scale = weight.abs().amax(1, keepdim=True) / 448
    scale[scale == 0] = 1
    return (weight / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale


def _fp8_checkpoint(checkpoint: Path, folder: Path) -> Path:
    """A copy in f32 whose quantizable linears hold no more than their fp8 numbers."""
    import torch

    from export.checkpoint import open_folder
    from export.config import read_config
    from export.plan import build_plan
    shutil.copytree(checkpoint,
                    folder,
                    ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "*.index.json"))
    stored = open_folder(checkpoint)
    shapes = stored.shapes()
    plan = build_plan(read_config(checkpoint), shapes)
    linears = {part.name for target in plan if target.quantized for part in target.parts}
    tensors = {}
    for name, shape in shapes.items():
        whole = torch.cat([chunk.float() for chunk in stored.chunks(name)]).view(shape)
        tensors[name] = _in_fp8(whole) if name in linears else whole
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder


def _export_all(checkpoint: Path, folder: Path) -> dict[str, Path]:
    """Bundles by the name of their weights, f32 first."""
    from export.export_bundle import ExportOptions, export_bundle
    bundles: dict[str, Path] = {}
    for dtype in ("f32", "bf16"):
        for weights in WIDTHS:
            if weights in ("f32", "bf16") and weights != dtype:
                continue
            bundle = folder / f"{dtype}-{weights}"
            export_bundle(ExportOptions(checkpoint, bundle, dtype=dtype, weights=weights))
            bundles[_weights_of(bundle)] = bundle
    bundles["fp8 (f32)"] = folder / "fp8"
    rounded = _fp8_checkpoint(checkpoint, folder / "fp8-checkpoint")
    export_bundle(ExportOptions(rounded, bundles["fp8 (f32)"], dtype="f32", weights="f32"))
    return bundles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints",
                        type=Path,
                        nargs="+",
                        help="checkpoint folders, or bundles with --bundles")
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
            bundles = {f"{_weights_of(bundle)}, {bundle}": bundle for bundle in options.checkpoints}
            compare(f"{first.name} ({_weights_of(first)})", bundles, requests, options.threads)
            return
        for number, checkpoint in enumerate(options.checkpoints):
            bundles = _export_all(checkpoint, Path(scratch) / str(number))
            compare(checkpoint.name, bundles, requests, options.threads)


if __name__ == "__main__":
    main()
