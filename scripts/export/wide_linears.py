# SPDX-License-Identifier: Apache-2.0
"""Which linears of a quantized bundle have 8 bits where others have 16 or 4."""

from .plan import TargetTensor

HEAD = "decoder.lm_head"


def wide_linears(plan: list[TargetTensor], quantization: str) -> list[str]:
    """The head, which would have 16 bits: every step reads it. In an int4 bundle as many bytes as
    that saves go to twice as many values of the first linears, half a byte each: an error made
    there goes through all layers that follow. In a 9b they are the first cross layer and the
    attention of the first decoder layer."""
    if quantization != "int4":
        return [HEAD] if quantization == "int8" else []
    values = {target.name: target.shape[0] * target.shape[1] for target in plan if target.linear}
    left, names = 2 * values[HEAD], [HEAD]
    for target in plan:
        if target.quantized and target.name.startswith("decoder."):
            left -= values[target.name]
            if left < 0:
                break
            names.append(target.name)
    return names
