# SPDX-License-Identifier: Apache-2.0
"""Which linears of an int4 bundle have 8 bits instead, for the same bytes as with a 16-bit head."""

from .plan import TargetTensor

HEAD = "decoder.lm_head"


def wide_linears(plan: list[TargetTensor]) -> list[str]:
    """The head in 8 bits saves a byte a value. Twice as many values of the first linears pay for it
    with half a byte each: an error made there goes through all layers that follow. In a 9b they are
    the first cross layer and the attention of the first decoder layer."""
    values = {target.name: target.shape[0] * target.shape[1] for target in plan if target.linear}
    left, names = 2 * values[HEAD], [HEAD]
    for target in plan:
        if target.quantized and target.name.startswith("decoder."):
            left -= values[target.name]
            if left < 0:
                break
            names.append(target.name)
    return names
