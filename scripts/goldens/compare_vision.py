#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How far the stored form of the weights moves what the decoder is told of a picture: a table of
the latents, keys and values of bundles against those of the first one.

    compare_vision.py --pictures FILE... --bundles FIRST OTHER...

Runs each bundle's vision.ts on the operators of the server (IDEFICS_OPS_LIBRARY), pictures as
`idefics-server preprocess` sees them: IDEFICS_SERVER.
"""

import argparse
import functools
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from export.samples import seen_pictures
from export.scripted import load_operators


def vision_of(bundle: Path) -> torch.jit.ScriptModule:
    module = torch.jit.load(bundle / "vision.ts")
    for path in bundle.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no dict)
                part, _, rest = name.partition(".")
                if part == "vision":
                    owner, _, last = rest.rpartition(".")
                    inner = functools.reduce(getattr, owner.split(".") if owner else [], module)
                    setattr(inner, last, torch.nn.Parameter(file.get_tensor(name), False))
    return module


def told(bundle: Path, pictures: list[Path]) -> list[dict[str, Tensor]]:
    """Of each picture, f32."""
    shape = json.loads((bundle / "bundle.json").read_text())
    mean, std = (torch.tensor(shape["processor"][key])[:, None, None]
                 for key in ("image_mean", "image_std"))
    vision = vision_of(bundle)
    found = []
    with torch.inference_mode(), torch.jit.optimized_execution(False):
        for pixels in seen_pictures(pictures):
            x = vision.embed(((pixels - mean) / std)[None])
            for layer in vision.layers.children():
                x = layer(x)
            latents = vision.pool(x)
            keys, values = vision.image_kv(latents)
            found.append({"latents": latents.float(), "keys": keys.float(),
                          "values": values.float()})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, nargs="+", required=True)
    parser.add_argument("--pictures", type=Path, nargs="+", required=True)
    options = parser.parse_args()
    load_operators()
    first, *others = options.bundles
    truth = told(first, options.pictures)
    print("| bundle | picture | what | cosine | smallest cosine of a row | rms error / rms | "
          "largest error / rms |\n|---|---|---|---|---|---|---|")
    for bundle in others:
        for picture, mine, right in zip(options.pictures, told(bundle, options.pictures), truth,
                                        strict=True):
            for what, y in right.items():
                error, rms = mine[what] - y, y.square().mean().sqrt()
                whole = F.cosine_similarity(mine[what].flatten().double(), y.flatten().double(),
                                            dim=0)
                rows = F.cosine_similarity(mine[what], y, dim=-1).min()
                print(f"| {bundle.name} | {picture.name} | {what} | {whole:.6f} | {rows:.6f} | "
                      f"{error.square().mean().sqrt() / rms:.4f} | {error.abs().max() / rms:.3f} |",
                      flush=True)


if __name__ == "__main__":
    main()
