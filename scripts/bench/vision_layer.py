#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One layer of the vision tower in full shape (257 patches, width 1280) on one core: the exported
module in each stored form against the same formula with libtorch's own linears, in turns.

CPU time of the thread, so that a busy machine disturbs less. On a CPU with AVX-512 this is what one
with AVX2 runs (MKL, f32 only, takes a variable of its own):

    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 IDEFICS_CPU=avx2
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from export.linears import Widths
from export.modules import VisionLayer, VisionShape
from export.packing import linear_form
from export.scripted import load_operators

WIDTH, MLP, HEADS, PATCHES, EPS = 1280, 5120, 16, 257, 1e-5
SIZES = {"qkv": (3 * WIDTH, WIDTH), "out": (WIDTH, WIDTH), "fc1": (MLP, WIDTH),
         "fc2": (WIDTH, MLP)}
RIVALS = {"libtorch f32": torch.float32, "libtorch bf16": torch.bfloat16}
OURS = {"f32": (torch.float32, "none"), "bf16": (torch.bfloat16, "none"),
        "int8": (torch.bfloat16, "int8")}


class PlainLayer(nn.Module):
    """As transformers computes it."""

    def __init__(self, weights: dict[str, Tensor], biases: dict[str, Tensor], dtype: torch.dtype):
        super().__init__()
        self.w = {name: value.to(dtype) for name, value in weights.items()}
        self.b = {name: value.to(dtype) for name, value in biases.items()}

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x, [WIDTH], eps=EPS)
        qkv = F.linear(y, self.w["qkv"], self.b["qkv"]).view(1, PATCHES, 3, HEADS, WIDTH // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + F.linear(mixed, self.w["out"], self.b["out"])
        y = F.gelu(F.linear(F.layer_norm(x, [WIDTH], eps=EPS), self.w["fc1"], self.b["fc1"]))
        return x + F.linear(y, self.w["fc2"], self.b["fc2"])


def _set(module: nn.Module, name: str, value: Tensor) -> None:
    setattr(module, name, nn.Parameter(value, requires_grad=False))


def _exported(weights: dict[str, Tensor], biases: dict[str, Tensor], dtype: torch.dtype,
              quantization: str) -> nn.Module:
    shape = VisionShape(224, 14, 3, WIDTH, 1, HEADS, MLP, EPS, "gelu")
    layer = VisionLayer(shape, Widths(quantization))
    form = linear_form(dtype, quantization)
    for norm in ("norm1", "norm2"):
        _set(layer, f"{norm}_weight", torch.ones(WIDTH, dtype=dtype))
        _set(layer, f"{norm}_bias", torch.zeros(WIDTH, dtype=dtype))
    for name, size in SIZES.items():
        _set(layer, f"{name}_bias", biases[name].to(dtype))
        packed, scale = form.pack(weights[name].to(form.read_as))
        stored, linear = form.tensors(*size), getattr(layer, name)
        _set(linear, "weight", packed.view(stored["weight"][0]).view(stored["weight"][1]))
        if scale is not None:
            _set(linear, "scale", scale.view(stored["scale"][1]))
    return torch.jit.script(layer.eval())


def _spread(values: list[float], digits: int) -> str:
    middle, low, high = (f"{value:.{digits}f}"
                         for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low}–{high})"


def main() -> None:
    parser = argparse.ArgumentParser(description="One layer of the vision tower, in turns.")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    load_operators()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    weights = {name: torch.randn(n, k) * k**-0.5 for name, (n, k) in SIZES.items()}
    biases = {name: torch.randn(n) * 0.02 for name, (n, _) in SIZES.items()}
    layers: dict[str, tuple[nn.Module, torch.dtype]] = {
        name: (PlainLayer(weights, biases, dtype), dtype) for name, dtype in RIVALS.items()}
    for name, (dtype, quantization) in OURS.items():
        layers[name] = (_exported(weights, biases, dtype, quantization), dtype)
    x = torch.randn(1, PATCHES, WIDTH)
    times: dict[str, list[float]] = {name: [] for name in layers}
    added: dict[str, Tensor] = {}
    with torch.inference_mode(), torch.jit.optimized_execution(False):
        for turn in range(rounds + 1):  # the first one warms up
            for name, (layer, dtype) in layers.items():
                begun = time.thread_time()
                y = layer(x.to(dtype))
                if turn:
                    times[name].append((time.thread_time() - begun) * 1000)
                added[name] = (y.float() - x).flatten()
    print("| form | ms | × libtorch f32 | × libtorch bf16 | cosine of what is added, to f32 |\n"
          "|---|---|---|---|---|")
    for name, mine in times.items():
        ratios = [_spread([theirs / own for theirs, own in zip(times[rival], mine, strict=True)], 2)
                  for rival in RIVALS]
        cosine = F.cosine_similarity(added["libtorch f32"], added[name], dim=0).item()
        print(f"| {name} | {_spread(mine, 1)} | {ratios[0]} | {ratios[1]} | {cosine:.6f} |")


if __name__ == "__main__":
    main()
